import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Engine } from '../../lib/engine.js'
import { type NanoItem, type NanoTask, nanoItem } from '../../lib/eval/nano/index.js'
import { type LoadOptions, load, type Part } from '../../lib/index.js'

/** The repository. */
export const ROOT = fileURLToPath(new URL('../../', import.meta.url))
/** The built command-line program. */
export const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

/** Compute threads of the tests; fewer where other work shares the machine. */
export const TEST_THREADS = Number(process.env.POLYMIND_TEST_THREADS ?? 2)

/** Opens the embedded model, runs `work`, frees it. */
export async function withNano<T>(
  work: (engine: Engine) => Promise<T>,
  options: LoadOptions = {},
): Promise<T> {
  const engine = await load(undefined, { threads: TEST_THREADS, ...options })
  try {
    return await work(engine)
  } finally {
    await engine.dispose()
  }
}

/** The request that puts a generated item to the model, greedily. */
export function requestFor(item: NanoItem) {
  const text: Part = { type: 'text', text: item.question }
  const inputs: Part[] = [text]
  if (item.image !== undefined) {
    const { width, height, data } = item.image
    inputs.unshift({ type: 'image', data, raw: { width, height } })
  }
  return { inputs, tools_allowed: item.tools, preferences: { temperature: 0, max_tokens: 96 } }
}

/** Greedy request for the item of a task and seed. */
export const nanoRequest = (task: NanoTask, seed: number) => requestFor(nanoItem(task, seed))

/** Makes the model talk until the context is full: the grammar never allows an end. */
export const ENDLESS = {
  inputs: [{ type: 'text' as const, text: 'What are you?' }],
  preferences: { temperature: 0, grammar: 'root ::= [a-z ] root', max_tokens: 100_000 },
}

export interface ProgramResult {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Runs a program to its end; kills it after `timeout_ms`, which then shows as a signal. */
export function runProgram(
  args: string[],
  options: {
    input?: string | undefined
    env?: NodeJS.ProcessEnv
    timeout_ms?: number
    cwd?: string
  } = {},
): Promise<ProgramResult> {
  const child = spawn(process.execPath, args, {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const result: ProgramResult = { code: null, signal: null, stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    result.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    result.stderr += text
  })
  child.stdin.on('error', () => {})
  if (options.input !== undefined) child.stdin.write(options.input)
  child.stdin.end()
  const timer = setTimeout(() => child.kill('SIGKILL'), options.timeout_ms ?? 60_000)
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ ...result, code, signal })
    })
  })
}

/** Runs the built `mm`. */
export function mm(...args: string[]): Promise<ProgramResult> {
  return runProgram([requireBuilt(CLI), ...args])
}

/** `file`, which `npm run build:ts` makes; a clear failure instead of a missing module. */
export function requireBuilt(file: string): string {
  if (!existsSync(file)) throw new Error(`${file} is missing: run \`npm run build:ts\` first`)
  return file
}

/** Runs a TypeScript fixture in a process of its own. */
export function runFixture(
  name: string,
  args: string[],
  timeout_ms = 60_000,
): Promise<ProgramResult> {
  const file = fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url))
  return runProgram(['--import', 'tsx', file, ...args], { timeout_ms })
}

/** Resolves when `done()` is true; fails after `timeout_ms`. For states nothing announces. */
export async function until(done: () => boolean, timeout_ms = 10_000): Promise<void> {
  const end = Date.now() + timeout_ms
  while (!done()) {
    if (Date.now() > end) throw new Error(`not reached within ${timeout_ms} ms`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}
