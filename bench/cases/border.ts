import { runTrial } from '../lib/child.js'
import { type Contender, type Plan, UNITS } from '../lib/compare.js'
import { cachedModel } from '../models/make-gguf.js'
import { nodeLlamaCppFolder } from '../peers.js'
import type { BorderSpec } from '../trials/border.js'
import type { BenchContext } from './context.js'

const OPERATIONS: readonly BorderSpec['operation'][] = ['tokenize', 'detokenize', 'request']

/**
 * What crossing from JavaScript costs. node-llama-cpp tokenizes on the JavaScript thread; ours does
 * so on the engine's and returns a promise.
 */
export function border({ threads }: BenchContext): Plan[] {
  return OPERATIONS.map((operation) => ({
    bench: 'border',
    name: operation,
    prepare: async () => {
      const { folder, version } = nodeLlamaCppFolder()
      const spec = { model: await cachedModel('llama-tiny'), threads, operation, folder }
      return {
        unit: UNITS.operationsPerSecond,
        ours: contender('ours-border.ts', spec, 'polymind-native', 'this tree'),
        peers: [contender('peer-border.ts', spec, 'node-llama-cpp', version)],
      }
    },
  }))
}

function contender(file: string, spec: BorderSpec, name: string, version: string): Contender {
  const measure = () => runTrial<BorderSpec, { operations_per_second: number }>(file, spec)
  return { name, version, measure: async () => (await measure()).operations_per_second }
}
