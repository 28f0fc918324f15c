import type { Plan } from '../lib/compare.js'
import type { ModelName } from '../models/shapes.js'

/** What every benchmark gets. */
export interface BenchContext {
  /** Compute threads of every contender. */
  threads: number
  /** Instead of the usual model, where a benchmark has one; kv only. */
  model?: ModelName
}

/** Names the cases of a benchmark. */
export type Bench = (context: BenchContext) => Plan[]
