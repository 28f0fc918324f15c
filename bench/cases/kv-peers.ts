/** llama.cpp's programs with a KV cache of some length, as they come and in their best setting. */
import { runProgram } from '../lib/child.js'
import type { Contender } from '../lib/compare.js'
import { llamaVersion, peerProgram } from '../peers.js'

/** How llama.cpp can be told to keep and read its KV cache; `default` says nothing. */
export interface KvSetting {
  name: string
  args: readonly string[]
}

/** What a case asks of one of llama.cpp's programs. */
export interface KvWork {
  program: 'llama-bench' | 'llama-batched-bench'
  /** Everything but the setting. */
  args: readonly string[]
  read(output: string): number
  timeoutMs: number
}

const DEFAULT: KvSetting = { name: 'default', args: [] }

/**
 * What else runs: a quantized V needs flash attention, and flash attention with f16 is what `default`
 * is on a CPU.
 */
const SETTINGS: readonly KvSetting[] = [
  { name: '-fa off, f16', args: ['-fa', 'off'] },
  { name: '-fa on, q8_0', args: ['-fa', 'on', '-ctk', 'q8_0', '-ctv', 'q8_0'] },
]

/** One buffer for all sequences, in which a common prefix lies once. */
const SHARED_SETTINGS: readonly KvSetting[] = [
  ...SETTINGS,
  ...[DEFAULT, ...SETTINGS].map(({ name, args }) => ({
    name: `${name}, -kvu`,
    args: [...args, '-kvu'],
  })),
]

/** A setting this close to the fastest of a shorter run may be the fastest of the longer one. */
const CLOSE = 0.8

function contender(name: string, work: KvWork, setting: KvSetting): Contender {
  const program = peerProgram(work.program)
  return {
    name: `${work.program} (${name})`,
    version: llamaVersion(),
    measure: async () =>
      work.read(
        await runProgram(program, [...work.args, ...setting.args], { timeoutMs: work.timeoutMs }),
      ),
  }
}

// What a setting printed, by program, sizes and setting: several cases compare settings by the same
// run, which takes a minute.
const printed = new Map<string, string>()

async function scout(trial: KvWork, setting: KvSetting): Promise<number> {
  const program = peerProgram(trial.program)
  const args = [...trial.args, ...setting.args]
  const key = JSON.stringify([program, args])
  const output =
    printed.get(key) ?? (await runProgram(program, args, { timeoutMs: trial.timeoutMs }))
  printed.set(key, output)
  return trial.read(output)
}

/**
 * The default and every setting that may be the fastest. That is found by running each once on
 * `trial`, which is `work` or something shorter: at a depth of 2048 tokens attention already takes
 * much of a step, and to fill a longer cache with a slow setting takes many minutes.
 */
export async function defaultAndFastest(
  work: KvWork,
  trial: KvWork,
  shared = false,
): Promise<Contender[]> {
  const found: { setting: KvSetting; value: number }[] = []
  for (const setting of [DEFAULT, ...(shared ? SHARED_SETTINGS : SETTINGS)]) {
    const value = await scout(trial, setting)
    process.stderr.write(`  which setting: ${setting.name}: ${value.toPrecision(4)} tok/s\n`)
    found.push({ setting, value })
  }
  const fastest = Math.max(...found.map(({ value }) => value))
  return found
    .filter(({ setting, value }) => setting === DEFAULT || value >= CLOSE * fastest)
    .map(({ setting }) => contender(setting.name, work, setting))
}

const common = (model: string, threads: number): string[] => [
  ...['-m', model, '-t', String(threads), '-ngl', '0'],
]

interface BenchRow {
  n_prompt: number
  n_gen: number
  avg_ts: number
}

const MINUTE_MS = 60_000
const LONG_MS = 60 * MINUTE_MS

/** What llama-bench does at a depth; several repeats share the filling of the cache. */
export interface DepthSizes {
  depth: number
  prompt: number
  output: number
  repeats: number
}

/** llama-bench: evaluate a prompt or decode at a depth. `kind`: which of the two is read. */
export function depthWork(
  model: string,
  threads: number,
  kind: 'decode' | 'prefill',
  { depth, prompt, output, repeats }: DepthSizes,
): KvWork {
  const sizes = ['-p', String(prompt), '-n', String(output), '-d', String(depth)]
  return {
    program: 'llama-bench',
    args: [...common(model, threads), ...sizes, '-r', String(repeats), '-o', 'json'],
    read: (text) => {
      const rows = JSON.parse(text) as BenchRow[]
      const row = rows.find(({ n_prompt, n_gen }) => (kind === 'prefill' ? n_prompt : n_gen) > 0)
      return row?.avg_ts ?? Number.NaN
    },
    timeoutMs: LONG_MS,
  }
}

/** llama-batched-bench: decode `tokens` of each sequence after prompts of `depth` tokens. */
export function batchWork(
  model: string,
  threads: number,
  sizes: { depth: number; tokens: number; parallel: number; shared: boolean },
): KvWork {
  const { depth, tokens, parallel, shared } = sizes
  const context = parallel * (depth + tokens) + 256
  const counts = ['-npp', String(depth), '-ntg', String(tokens), '-npl', String(parallel)]
  const rest = ['-c', String(context), '--output-format', 'jsonl', ...(shared ? ['-pps'] : [])]
  return {
    program: 'llama-batched-bench',
    args: [...common(model, threads), ...counts, ...rest],
    read: (output) => {
      const line = output.split('\n').find((text) => text.startsWith('{'))
      return line === undefined ? Number.NaN : (JSON.parse(line) as { speed_tg: number }).speed_tg
    },
    timeoutMs: LONG_MS,
  }
}

/**
 * Bytes that llama.cpp takes for keys and values, for each of `used` tokens, in a context of
 * `context`. Its log says how large the buffer is.
 */
export function bufferBytes(
  model: string,
  context: number,
  used: number,
  setting: 'default' | 'q8_0',
): Contender {
  const program = peerProgram('llama-batched-bench')
  const sizes = ['-c', String(context), '-npp', '16', '-ntg', '1', '-npl', '1', '-v']
  const types = setting === 'default' ? [] : ['-fa', 'on', '-ctk', 'q8_0', '-ctv', 'q8_0']
  return {
    name: `llama.cpp (${setting === 'default' ? 'default: f16' : 'best: q8_0'})`,
    version: llamaVersion(),
    trials: 1,
    measure: async () => {
      const args = [...common(model, 1), ...sizes, ...types]
      const log = await runProgram(program, args, { stderr: 'returned' })
      const buffers = [...log.matchAll(/KV buffer size = +([\d.]+) MiB/g)]
      const mebibytes = buffers.reduce((sum, match) => sum + Number(match[1]), 0)
      return (mebibytes * 2 ** 20) / used
    },
  }
}
