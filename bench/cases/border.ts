import { runTrial } from '../lib/child.js'
import { type Case, type Contender, UNITS } from '../lib/compare.js'
import { cachedModel } from '../models/make-gguf.js'
import { nodeLlamaCppFolder } from '../peers.js'
import type { BorderSpec } from '../trials/border.js'
import type { BenchContext } from './context.js'

const OPERATIONS: readonly BorderSpec['operation'][] = ['tokenize', 'detokenize', 'request']

/**
 * What crossing from JavaScript costs. node-llama-cpp tokenizes on the JavaScript thread; ours does
 * so on the engine's and returns a promise.
 */
export async function border({ threads }: BenchContext): Promise<Case[]> {
  const model = await cachedModel('llama-tiny')
  const { folder, version } = nodeLlamaCppFolder()
  const contender = (file: string, operation: BorderSpec['operation']) => async () =>
    (
      await runTrial<object, { operations_per_second: number }>(file, {
        model,
        threads,
        operation,
        folder,
      })
    ).operations_per_second
  return OPERATIONS.map((operation): Case => {
    const ours: Contender = {
      name: 'polymind-native',
      version: 'this tree',
      measure: contender('ours-border.ts', operation),
    }
    const peer = {
      name: 'node-llama-cpp',
      version,
      measure: contender('peer-border.ts', operation),
    }
    return {
      bench: 'border',
      name: operation,
      unit: UNITS.operationsPerSecond,
      ours,
      peers: [peer],
    }
  })
}
