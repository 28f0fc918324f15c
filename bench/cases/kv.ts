import { runTrial } from '../lib/child.js'
import { type Contender, type Contest, type Plan, UNITS } from '../lib/compare.js'
import { kernelRates } from '../lib/kv-kernels.js'
import { cachedModel } from '../models/make-gguf.js'
import type { KvAnswer, KvSpec } from '../trials/ours-kv.js'
import type { BenchContext } from './context.js'
import { batchWork, bufferBytes, defaultAndBest, depthWork, type KvWork } from './kv-peers.js'

const MODEL = 'qwen2-0.5b'
const PREFILL_TOKENS = 512
const SCOUT_DEPTH = 2048
const SLOW_DEPTH = 32_768
const TRIAL_LIMIT_MS = 60 * 60_000
const PARALLEL = 8
const BANDWIDTH_DEPTH = 8192
/** A chat needs a prompt; llama-bench can start with an empty context. */
const SHORT_DEPTH = 24

/** Tokens produced at a depth: fewer where each takes long. */
const DECODE_TOKENS: Record<number, number> = { 0: 128, 2048: 64, 8192: 32, [SLOW_DEPTH]: 16 }

/** The paged KV cache against llama.cpp's programs and against our own stock memory. */
export function kv({ threads }: BenchContext): Plan[] {
  const plan = (name: string, prepare: () => Promise<Contest>, slow = false): Plan => ({
    bench: 'kv',
    name,
    slow,
    prepare,
  })
  return [
    ...Object.entries(DECODE_TOKENS).map(([depth, tokens]) =>
      plan(
        `decode@${depth}`,
        () => depthContest(threads, 'decode', Number(depth), tokens),
        Number(depth) === SLOW_DEPTH,
      ),
    ),
    ...[0, 4096].map((depth) =>
      plan(`prefill512@${depth}`, () => depthContest(threads, 'prefill', depth, PREFILL_TOKENS)),
    ),
    plan('shared-prefix-8x2048', () => batchContest(threads, true)),
    plan('unshared-8x2048', () => batchContest(threads, false)),
    plan('bytes-per-token', () => bytesContest(4096, 4096)),
    plan('bytes-per-token, 1024 of 32768', () => bytesContest(1024, 32_768)),
    plan('attention-bandwidth', () => bandwidthContest()),
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
  threads: number,
  task: 'decode' | 'prefill',
  depth: number,
  tokens: number,
): Promise<Contest> {
  const model = await cachedModel(MODEL)
  const held = task === 'decode' ? Math.max(SHORT_DEPTH, depth) : depth
  const context = held + tokens + 64
  const spec = { model, threads, task, depth: held, tokens, parallel: 1, shared: false, context }
  const work = (at: number): KvWork => depthWork(model, threads, task, at, tokens)
  const scout = depth === 0 ? work(0) : scoutWork(model, threads, task)
  const stock = { ...ours(spec, 'stock'), ...(depth >= 4096 ? ONCE : {}) }
  return {
    unit: UNITS.tokensPerSecond,
    ours: ours(spec),
    peers: [...(await defaultAndBest(work(depth), scout)), stock],
  }
}

/** The same for every depth, so that settings are compared once. */
const scoutWork = (model: string, threads: number, task: 'decode' | 'prefill'): KvWork =>
  depthWork(model, threads, task, SCOUT_DEPTH, task === 'decode' ? 32 : PREFILL_TOKENS)

async function batchContest(threads: number, shared: boolean): Promise<Contest> {
  const model = await cachedModel(MODEL)
  const sizes = { depth: SCOUT_DEPTH, tokens: 32, parallel: PARALLEL, shared }
  const spec = { model, threads, task: 'batch' as const, ...sizes, context: SCOUT_DEPTH + 256 }
  const scout = batchWork(model, threads, { ...sizes, depth: SCOUT_DEPTH / 4, tokens: 16 })
  const peers = await defaultAndBest(batchWork(model, threads, sizes), scout, shared)
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

async function bytesContest(used: number, context: number): Promise<Contest> {
  const model = await cachedModel(MODEL)
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
async function bandwidthContest(): Promise<Contest> {
  const model = await cachedModel(MODEL)
  const spec = { model, threads: 1, parallel: 1, shared: false, tokens: 32 }
  const at = (depth: number) =>
    runOurs({ ...spec, task: 'decode', depth, context: depth + 128 }, 'paged')
  const { kv } = await at(SHORT_DEPTH)
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
      measure: async () => (await kernelRates(kv.dtype))[what],
    })),
  }
}
