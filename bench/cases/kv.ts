import { runTrial } from '../lib/child.js'
import { type Contender, type Contest, type Plan, UNITS } from '../lib/compare.js'
import { kernelRates } from '../lib/kv-kernels.js'
import { cachedModel } from '../models/make-gguf.js'
import { MODEL_SHAPES, type ModelName } from '../models/shapes.js'
import type { KvAnswer, KvSpec } from '../trials/ours-kv.js'
import type { BenchContext } from './context.js'
import { batchWork, bufferBytes, defaultAndFastest, depthWork } from './kv-peers.js'

const MODEL: ModelName = 'qwen2-0.5b'
const PREFILL_TOKENS = 512
const SCOUT_DEPTH = 2048
const SLOW_DEPTH = 32_768
const TRIAL_LIMIT_MS = 60 * 60_000
const PARALLEL = 8
const REPEATS = 2
const BANDWIDTH_DEPTH = 8192
/** A chat needs a prompt; llama-bench can start with an empty context. */
const SHORT_DEPTH = 24

/** Tokens produced at a depth: fewer where each takes long. */
const DECODE_TOKENS: Record<number, number> = { 0: 128, 2048: 64, 8192: 64, [SLOW_DEPTH]: 16 }

/** The paged KV cache against llama.cpp's programs and against our own stock memory. */
export function kv({ threads, model: name = MODEL }: BenchContext): Plan[] {
  const plan = (title: string, prepare: () => Promise<Contest>, slow = false): Plan => ({
    bench: 'kv',
    name: title,
    slow,
    prepare,
  })
  return [
    ...Object.entries(DECODE_TOKENS).map(([depth, tokens]) =>
      plan(
        `decode@${depth}`,
        () => depthContest(name, threads, 'decode', Number(depth), tokens),
        Number(depth) === SLOW_DEPTH,
      ),
    ),
    ...[0, 4096].map((depth) =>
      plan(`prefill512@${depth}`, () =>
        depthContest(name, threads, 'prefill', depth, PREFILL_TOKENS),
      ),
    ),
    plan('shared-prefix-8x2048', () => batchContest(name, threads, true)),
    plan('unshared-8x2048', () => batchContest(name, threads, false)),
    plan('bytes-per-token', () => bytesContest(name, 4096, 4096)),
    plan('bytes-per-token, 1024 of 32768', () => bytesContest(name, 1024, 32_768)),
    plan('attention-bandwidth', () => bandwidthContest(name)),
  ]
}

/** What a contender that takes minutes and has no target is measured: once. */
const ONCE = { trials: 1 }

type Memory = 'paged' | 'stock'

async function runOurs(spec: Omit<KvSpec, 'kv'>, memory: Memory): Promise<KvAnswer> {
  const full: KvSpec = { ...spec, kv: { memory } }
  return runTrial<KvSpec, KvAnswer>('ours-kv.ts', full, TRIAL_LIMIT_MS)
}

function ours(spec: Omit<KvSpec, 'kv'>, memory: Memory = 'paged'): Contender {
  return {
    name: memory === 'paged' ? 'polymind-native' : 'polymind-native (stock memory)',
    version: 'this tree',
    measure: async () => (await runOurs(spec, memory)).value,
  }
}

async function depthContest(
  name: ModelName,
  threads: number,
  task: 'decode' | 'prefill',
  depth: number,
  tokens: number,
): Promise<Contest> {
  const model = await cachedModel(name)
  const held = task === 'decode' ? Math.max(SHORT_DEPTH, depth) : depth
  const context = held + tokens + 64
  const spec = { model, threads, task, depth: held, tokens, parallel: 1, shared: false, context }
  const work = depthWork(model, threads, task, {
    depth,
    prompt: task === 'prefill' ? tokens : 0,
    output: task === 'decode' ? tokens : 0,
    repeats: REPEATS,
  })
  // Both at once: the same run ranks the settings for all depths of both tasks.
  const scout = depthWork(model, threads, task, {
    depth: Math.min(depth, SCOUT_DEPTH),
    prompt: PREFILL_TOKENS,
    output: 32,
    repeats: 1,
  })
  const stock = { ...ours(spec, 'stock'), ...(depth >= 4096 ? ONCE : {}) }
  return {
    unit: UNITS.tokensPerSecond,
    ours: ours(spec),
    peers: [...(await defaultAndFastest(work, scout)), stock],
  }
}

async function batchContest(name: ModelName, threads: number, shared: boolean): Promise<Contest> {
  const model = await cachedModel(name)
  const sizes = { depth: SCOUT_DEPTH, tokens: 32, parallel: PARALLEL, shared }
  const spec = { model, threads, task: 'batch' as const, ...sizes, context: SCOUT_DEPTH + 256 }
  const scout = batchWork(model, threads, { ...sizes, depth: SCOUT_DEPTH / 4, tokens: 16 })
  const peers = await defaultAndFastest(batchWork(model, threads, sizes), scout, shared)
  const once = shared ? {} : ONCE
  return {
    unit: UNITS.tokensPerSecond,
    ours: { ...ours(spec), ...once },
    // Without pages nothing is shared: that is the other case.
    peers: [...peers, ...(shared ? [] : [ours(spec, 'stock')])].map((peer) => ({
      ...peer,
      ...once,
    })),
  }
}

async function bytesContest(name: ModelName, used: number, context: number): Promise<Contest> {
  const model = await cachedModel(name)
  const sizes = { depth: used - 64, tokens: 64, parallel: 1, shared: false, context }
  const spec = { model, threads: 1, task: 'memory' as const, ...sizes }
  return {
    unit: UNITS.bytes,
    ours: { ...ours(spec), ...ONCE },
    peers: [
      bufferBytes(model, context, used, 'default'),
      bufferBytes(model, context, used, 'q8_0'),
      { ...ours(spec, 'stock'), ...ONCE },
    ],
  }
}

/**
 * Bytes of pages read each second while decoding, from how much longer a token takes at a depth,
 * against a plain loop that reads as many bytes. One thread, whatever the others get: the loop has
 * one.
 */
async function bandwidthContest(name: ModelName): Promise<Contest> {
  const model = await cachedModel(name)
  const spec = { model, threads: 1, parallel: 1, shared: false, tokens: 32 }
  const at = (depth: number) =>
    runOurs({ ...spec, task: 'decode', depth, context: depth + 128 }, 'paged')
  const { kv } = await at(SHORT_DEPTH)
  const { heads, kvHeads, headSize } = MODEL_SHAPES[name]
  const shape = { headSize, group: heads / kvHeads, tokens: BANDWIDTH_DEPTH }
  return {
    unit: UNITS.gigabytesPerSecond,
    ours: {
      name: 'polymind-native',
      version: 'this tree',
      measure: async () => {
        const seconds = 1 / (await at(BANDWIDTH_DEPTH)).value - 1 / (await at(SHORT_DEPTH)).value
        return (kv.bytes_per_token * (BANDWIDTH_DEPTH - SHORT_DEPTH)) / seconds / 1e9
      },
    },
    peers: (['read', 'attention'] as const).map((what) => ({
      name: what === 'read' ? 'read loop' : 'attention kernel alone',
      version: '',
      measure: async () => (await kernelRates(kv.dtype, shape))[what],
    })),
  }
}
