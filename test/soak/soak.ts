import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import sharp from 'sharp'
import type { Engine } from '../../lib/engine.js'
import { nanoItem } from '../../lib/eval/nano/index.js'
import { builtinTools, isMMError, type RunRequest } from '../../lib/index.js'
import { bigPng } from '../helpers/files.js'
import { ENDLESS, requestFor } from '../helpers/real.js'

/** Memory of the process after a forced collection, bytes. */
export interface MemorySample {
  resident: number
  /** Resident memory that is not V8's heap: ours, the model's, llama.cpp's, sharp's, buffers. */
  outsideHeap: number
  heapUsed: number
  /** Buffers and other memory that objects of the heap hold outside of it. */
  external: number
}

/** What became of the requests, and how much memory was resident along the way. */
export interface SoakReport {
  finished: number
  cancelled: number
  failed: number
  /** Endings that should not occur; empty when all is well. */
  surprises: string[]
  /** After each tenth of the requests. */
  memory: MemorySample[]
}

const AT_ONCE = 8
const TASKS = ['caption', 'chart_value', 'slope', 'ocr', 'tool_call'] as const

/** Runs `count` mixed requests, eight at a time: answered, cancelled at any stage, and failing. */
export async function soak(engine: Engine, count: number): Promise<SoakReport> {
  const report: SoakReport = { finished: 0, cancelled: 0, failed: 0, surprises: [], memory: [] }
  const huge = bigPng(30_000, 30_000)
  const photo = await sharp(noise(512, 384), { raw: { width: 512, height: 384, channels: 3 } })
    .png()
    .toBuffer()
  const tenth = Math.max(1, Math.floor(count / 10))
  for (let from = 0; from < count; from += tenth) {
    const numbers = Array.from({ length: Math.min(tenth, count - from) }, (_, i) => from + i)
    await inGroups(numbers, (number) => one(engine, number, { huge, photo }, report))
    await settle()
    report.memory.push(sample())
  }
  return report
}

function sample(): MemorySample {
  const { rss, heapUsed, external } = process.memoryUsage()
  const heap = getHeapStatistics().total_physical_size
  return { resident: rss, outsideHeap: rss - heap, heapUsed, external }
}

/** The largest value after the first in relation to it, minus one. */
export function growth(values: number[]): number {
  const [first = 0, ...later] = values
  return Math.max(...later) / first - 1
}

async function inGroups(numbers: number[], work: (number: number) => Promise<void>): Promise<void> {
  const queue = [...numbers]
  const worker = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await work(next)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

interface Files {
  huge: Buffer
  photo: Buffer
}

async function one(
  engine: Engine,
  number: number,
  files: Files,
  report: SoakReport,
): Promise<void> {
  const kind = number % 10
  try {
    if (kind === 6) await cancelSoon(engine, number)
    else if (kind === 7) await leaveEarly(engine)
    else if (kind === 8) await engine.run(broken(number, files))
    else {
      const request = kind === 9 ? photoRequest(files.photo) : nano(number)
      await engine.run(request, { tools: { ...builtinTools } })
    }
    report.finished++
  } catch (error) {
    const code = isMMError(error) ? error.code : String(error)
    if (code === 'MM_CANCELLED' && (kind === 6 || kind === 7)) report.cancelled++
    else if (/^MM_(INVALID_REQUEST|MEDIA_INVALID|CONTEXT_OVERFLOW)$/.test(code) && kind === 8)
      report.failed++
    else report.surprises.push(`${number}: ${code}`)
  }
}

function nano(number: number): RunRequest {
  // Images repeat after a while: the encoder's cache must neither grow nor go stale.
  return requestFor(nanoItem(TASKS[number % TASKS.length] ?? 'ocr', 1000 + (number % 200)))
}

function photoRequest(data: Buffer): RunRequest {
  const preferences = { temperature: 1, max_tokens: 16 }
  return {
    inputs: [
      { type: 'text', text: 'Describe.' },
      { type: 'image', data },
    ],
    preferences,
  }
}

async function cancelSoon(engine: Engine, number: number): Promise<void> {
  const generation = engine.run(number % 20 === 6 ? ENDLESS : nano(number))
  // From "at once" to "well into decoding", so that every stage is hit sooner or later.
  setTimeout(() => generation.cancel(), (number * 7) % 60)
  await generation
}

async function leaveEarly(engine: Engine): Promise<void> {
  const generation = engine.run(ENDLESS)
  for await (const _ of generation) break
  await generation
}

function broken(number: number, { huge }: Files): RunRequest {
  const text = { type: 'text' as const, text: 'x' }
  const requests: RunRequest[] = [
    { inputs: [] },
    { inputs: [text], preferences: { max_tokens: -1 } },
    { inputs: [{ type: 'image', data: Buffer.from('nothing') }] },
    { inputs: [{ type: 'image', data: huge }] },
    { inputs: [{ type: 'text', text: 'word '.repeat(20_000) }] },
    { inputs: [text], preferences: { grammar: 'root ::= (' } },
  ]
  return requests[Math.floor(number / 10) % requests.length] as RunRequest
}

function noise(width: number, height: number): Buffer {
  const pixels = Buffer.alloc(3 * width * height)
  let state = 1
  for (let i = 0; i < pixels.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    pixels[i] = state >>> 24
  }
  return pixels
}

// The flag need not be on the command line: contexts made after this have gc().
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** Lets finalizers run, so that the figure is what is really kept. */
async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    collect()
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
