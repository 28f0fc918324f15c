import { type SpawnOptions, spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const TRIALS = join(dirname(fileURLToPath(import.meta.url)), '..', 'trials')
const TIMEOUT_MS = 600_000
const KEPT_STDERR = 4000

/**
 * Runs a program to its end and returns its standard output, with `stderr: 'returned'` its standard
 * error too. @throws Error with its last words.
 */
export function runProgram(
  program: string,
  args: readonly string[],
  options: SpawnOptions & { timeoutMs?: number; stderr?: 'kept' | 'returned' } = {},
): Promise<string> {
  const { timeoutMs = TIMEOUT_MS, stderr: errors = 'kept', ...spawnOptions } = options
  return new Promise((done, fail) => {
    const child = spawn(program, args, { ...spawnOptions, stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (errors === 'returned') stdout += text
      stderr = (stderr + text).slice(-KEPT_STDERR)
    })
    child.on('error', fail)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (code === 0) done(stdout)
      else fail(new Error(`${program} ended with ${signal ?? `exit code ${code}`}\n${stderr}`))
    })
  })
}

/**
 * Runs one file of trials/ in a fresh process. It gets `spec` as JSON and prints its result as the
 * last line of its standard output.
 */
export async function runTrial<Spec extends object, Answer>(
  file: string,
  spec: Spec,
  timeoutMs = TIMEOUT_MS,
): Promise<Answer> {
  const args = ['--import', 'tsx', join(TRIALS, file), JSON.stringify(spec)]
  const stdout = await runProgram(process.execPath, args, { timeoutMs })
  const line = stdout.trim().split('\n').at(-1) ?? ''
  return JSON.parse(line) as Answer
}
