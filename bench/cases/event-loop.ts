import { type Plan, UNITS } from '../lib/compare.js'
import { cachedModel } from '../models/make-gguf.js'
import { nodeLlamaCppGenerating, oursGenerating } from './contenders.js'
import type { BenchContext } from './context.js'

const PARALLEL = 8

/**
 * 99th percentile of the delay of the event loop while eight generations run. A timer of 1 ms
 * measures it, so an idle loop shows about 1 ms.
 */
export function eventLoop({ threads }: BenchContext): Plan[] {
  // The tiny model makes thousands of tokens a second: as many deltas as a user will ever see.
  const cases = [
    ['qwen2-0.5b', 64],
    ['llama-tiny', 400],
  ] as const
  return cases.map(([name, tokens]) => ({
    bench: 'event-loop',
    name: `${name} x ${PARALLEL}, p99`,
    prepare: async () => {
      const model = await cachedModel(name)
      const spec = { model, threads, parallel: PARALLEL, tokens, promptWords: 8 }
      return {
        unit: UNITS.milliseconds,
        ours: oursGenerating(spec, 'event_loop_p99_ms'),
        peers: [nodeLlamaCppGenerating(spec, 'event_loop_p99_ms')],
      }
    },
  }))
}
