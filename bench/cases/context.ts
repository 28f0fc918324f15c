import type { Case } from '../lib/compare.js'

/** What every benchmark gets. */
export interface BenchContext {
  /** Compute threads of every contender. */
  threads: number
}

/** Prepares models and peers, then says what to measure. */
export type Bench = (context: BenchContext) => Promise<Case[]>
