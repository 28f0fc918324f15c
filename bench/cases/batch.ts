import { type Plan, UNITS } from '../lib/compare.js'
import { cachedModel } from '../models/make-gguf.js'
import type { ModelName } from '../models/shapes.js'
import { llamaProgram, nodeLlamaCppGenerating, oursGenerating } from './contenders.js'
import type { BenchContext } from './context.js'

const TOKENS = 64
const PROMPT_TOKENS = 24
const MODELS: readonly ModelName[] = ['qwen2-0.5b', 'llama-1b']
const PARALLEL = [2, 8]

/** Tokens per second of several generations at once, all together. */
export function batch({ threads }: BenchContext): Plan[] {
  return MODELS.flatMap((name) => PARALLEL.map((parallel) => plan(name, parallel, threads)))
}

function plan(name: ModelName, parallel: number, threads: number): Plan {
  return {
    bench: 'batch',
    name: `${name} x ${parallel}`,
    prepare: async () => {
      const model = await cachedModel(name)
      const spec = { model, threads, parallel, tokens: TOKENS, promptWords: 8 }
      return {
        unit: UNITS.tokensPerSecond,
        ours: oursGenerating(spec, 'tokens_per_second'),
        peers: [
          llamaProgram('llama-batched-bench', batchedArgs(model, threads, parallel), readBatched),
          nodeLlamaCppGenerating(spec, 'tokens_per_second'),
        ],
      }
    },
  }
}

function batchedArgs(model: string, threads: number, parallel: number): string[] {
  const context = String(1024 * parallel)
  const sizes = ['-npp', String(PROMPT_TOKENS), '-ntg', String(TOKENS), '-npl', String(parallel)]
  const rest = ['-t', String(threads), '-ngl', '0', '--output-format', 'jsonl']
  return ['-m', model, '-c', context, ...sizes, ...rest]
}

function readBatched(stdout: string): number {
  const line = stdout.split('\n').find((text) => text.startsWith('{'))
  return line === undefined ? Number.NaN : (JSON.parse(line) as { speed_tg: number }).speed_tg
}
