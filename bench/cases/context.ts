import type { Plan } from '../lib/compare.js'

/** What every benchmark gets. */
export interface BenchContext {
  /** Compute threads of every contender. */
  threads: number
}

/** Names the cases of a benchmark. */
export type Bench = (context: BenchContext) => Plan[]
