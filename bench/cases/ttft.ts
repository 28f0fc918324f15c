import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nanoItem } from '../../lib/eval/nano/index.js'
import { encodePng } from '../../lib/eval/nano/png.js'
import { packageRoot } from '../../lib/package-root.js'
import { type Contender, type Contest, type Plan, UNITS } from '../lib/compare.js'
import { LlamaServer } from '../lib/server.js'
import { median } from '../lib/stats.js'
import { cachedModel } from '../models/make-gguf.js'
import { llamaVersion, peerProgram } from '../peers.js'
import { syntheticPrompt } from '../trials/prompts.js'
import { nodeLlamaCppFirstToken, oursFirstToken } from './contenders.js'
import type { BenchContext } from './context.js'

const REQUESTS = 5
const PROMPT_WORDS = 500
const QUESTION = 'What is in the image?'

/** Milliseconds from a request, or from the start of a process, to the first text. */
export function ttft(context: BenchContext): Plan[] {
  const folder = mkdtempSync(join(tmpdir(), 'polymind-ttft-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const images = Array.from({ length: REQUESTS + 1 }, (_, index) => writeImage(folder, index))
  return [
    plan(`qwen2-0.5b, prompt of ${PROMPT_WORDS} tokens, warm`, () => textCase(context)),
    plan('p-nano, one new image, warm', () => warmImageCase(context, images)),
    plan('p-nano, one image, from process start', () => coldImageCase(context, images)),
  ]
}

const plan = (name: string, prepare: Plan['prepare']): Plan => ({ bench: 'ttft', name, prepare })

function writeImage(folder: string, index: number): string {
  const { image } = nanoItem('chart_value', 7000 + index)
  if (image === undefined) throw new Error('expected an image')
  const path = join(folder, `${index}.png`)
  writeFileSync(path, encodePng(image))
  return path
}

async function textCase({ threads }: BenchContext): Promise<Contest> {
  const model = await cachedModel('qwen2-0.5b')
  const spec = {
    model,
    threads,
    requests: REQUESTS,
    promptWords: PROMPT_WORDS,
    images: [],
    question: '',
  }
  const contents = Array.from({ length: REQUESTS + 1 }, (_, i) =>
    syntheticPrompt(PROMPT_WORDS, i + 1),
  )
  return {
    unit: UNITS.milliseconds,
    ours: oursFirstToken(spec),
    peers: [
      serverFirstToken(['-m', model, ...serverArgs(threads)], contents),
      nodeLlamaCppFirstToken(spec),
    ],
  }
}

function warmImageCase({ threads }: BenchContext, images: string[]): Contest {
  const contents = images.map((path) => [
    { type: 'text', text: QUESTION },
    {
      type: 'image_url',
      image_url: { url: `data:image/png;base64,${readFileSync(path).toString('base64')}` },
    },
  ])
  const files = ['-m', nanoFile('p-nano.gguf'), '--mmproj', nanoFile('p-nano-mmproj.gguf')]
  const spec = {
    model: '',
    threads,
    requests: REQUESTS,
    promptWords: 0,
    images,
    question: QUESTION,
  }
  return {
    unit: UNITS.milliseconds,
    ours: oursFirstToken(spec),
    peers: [serverFirstToken([...files, ...serverArgs(threads)], contents)],
  }
}

function coldImageCase({ threads }: BenchContext, images: string[]): Contest {
  const image = images[0] as string
  const ours = [join(packageRoot(), 'dist', 'cli', 'main.js'), 'run', QUESTION, '--image', image]
  const models = ['-m', nanoFile('p-nano.gguf'), '--mmproj', nanoFile('p-nano-mmproj.gguf')]
  const theirs = [...models, '--jinja', '-p', QUESTION, '--image', image, '-t', String(threads)]
  return {
    unit: UNITS.milliseconds,
    ours: {
      name: 'mm run',
      version: 'this tree',
      measure: () => firstOutput(process.execPath, [...ours, '--threads', String(threads)]),
    },
    peers: [
      {
        name: 'llama-mtmd-cli',
        version: llamaVersion(),
        measure: () => firstOutput(peerProgram('llama-mtmd-cli'), [...theirs, '--temp', '0']),
      },
    ],
  }
}

const nanoFile = (name: string): string => join(packageRoot(), 'models', 'p-nano', name)

const serverArgs = (threads: number): string[] => [
  ...['-t', String(threads), '-c', '1024', '-np', '1', '-ngl', '0'],
]

/** A fresh server answers one request to warm up and then the measured ones. */
function serverFirstToken(args: readonly string[], contents: readonly unknown[]): Contender {
  return {
    name: 'llama-server',
    version: llamaVersion(),
    measure: async () => {
      const server = await LlamaServer.start(args)
      try {
        const [warmUp, ...rest] = contents
        await server.timeToFirstToken(warmUp)
        const times: number[] = []
        for (const content of rest) times.push(await server.timeToFirstToken(content))
        return median(times)
      } finally {
        await server.stop()
      }
    },
  }
}

/** Milliseconds from starting a program to the first text on its standard output. */
function firstOutput(program: string, args: readonly string[]): Promise<number> {
  return new Promise((done, fail) => {
    const started = performance.now()
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let first = Number.NaN
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => {
      if (Number.isNaN(first) && chunk.toString().trim() !== '') first = performance.now() - started
    })
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-2000)
    })
    child.on('error', fail)
    child.on('close', (code) => {
      if (code === 0 && !Number.isNaN(first)) done(first)
      else
        fail(new Error(`${program} ended with exit code ${code}, first text ${first}\n${stderr}`))
    })
  })
}
