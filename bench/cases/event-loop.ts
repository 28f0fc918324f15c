import { type Case, UNITS } from '../lib/compare.js'
import { cachedModel } from '../models/make-gguf.js'
import { nodeLlamaCppGenerating, oursGenerating } from './contenders.js'
import type { BenchContext } from './context.js'

const PARALLEL = 8

/**
 * 99th percentile of the delay of the event loop while eight generations run. A timer of 1 ms
 * measures it, so an idle loop shows about 1 ms.
 */
export async function eventLoop({ threads }: BenchContext): Promise<Case[]> {
  const model = await cachedModel('qwen2-0.5b')
  const spec = { model, threads, parallel: PARALLEL, tokens: 64, promptWords: 8 }
  // Thousands of tokens a second: as many deltas as a user will ever see.
  const tiny = { ...spec, model: await cachedModel('llama-tiny'), tokens: 400 }
  return [['qwen2-0.5b', spec] as const, ['llama-tiny', tiny] as const].map(([name, each]) => ({
    bench: 'event-loop',
    name: `${name} x ${PARALLEL}, p99`,
    unit: UNITS.milliseconds,
    ours: oursGenerating(each, 'event_loop_p99_ms'),
    peers: [nodeLlamaCppGenerating(each, 'event_loop_p99_ms')],
  }))
}
