import type { KvPages } from '../engine.js'

/** The pool of pages of one layer group: layers that look back equally far. */
export type KvPageGroup = KvPages['groups'][number]

/** `.` free, `u` used by one holder, `s` shared by several, `c` only the prefix cache holds it. */
export type KvPageState = '.' | 'u' | 's' | 'c'

/** How many pages of a group are in each state. */
export function countStates({ pages_total, states }: KvPageGroup): Record<KvPageState, number> {
  const counts: Record<KvPageState, number> = { '.': 0, u: 0, s: 0, c: 0 }
  for (const state of states) {
    if (!Object.hasOwn(counts, state)) {
      throw new RangeError(`expected a page state of '.', 'u', 's' or 'c', received '${state}'`)
    }
    counts[state as KvPageState]++
  }
  counts['.'] += Math.max(0, pages_total - states.length)
  return counts
}
