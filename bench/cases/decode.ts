import { type Plan, UNITS } from '../lib/compare.js'
import { cachedModel } from '../models/make-gguf.js'
import type { ModelName } from '../models/shapes.js'
import { llamaProgram, nodeLlamaCppGenerating, oursGenerating } from './contenders.js'
import type { BenchContext } from './context.js'

const TOKENS = 128
const MODELS: readonly ModelName[] = ['qwen2-0.5b', 'llama-1b', 'gemma3-1b', 'llama-3b']

/** Tokens per second of one generation. llama-bench decodes without sampling or text. */
export function decode({ threads }: BenchContext): Plan[] {
  return MODELS.map((name) => ({
    bench: 'decode',
    name,
    prepare: async () => {
      const model = await cachedModel(name)
      const spec = { model, threads, parallel: 1, tokens: TOKENS, promptWords: 8 }
      const args = ['-m', model, '-p', '0', '-n', String(TOKENS), '-t', String(threads)]
      return {
        unit: UNITS.tokensPerSecond,
        ours: oursGenerating(spec, 'tokens_per_second'),
        peers: [
          llamaProgram('llama-bench', [...args, '-r', '1', '-ngl', '0', '-o', 'json'], readBench),
          nodeLlamaCppGenerating(spec, 'tokens_per_second'),
        ],
      }
    },
  }))
}

function readBench(stdout: string): number {
  const [row] = JSON.parse(stdout) as { avg_ts: number }[]
  return row?.avg_ts ?? Number.NaN
}
