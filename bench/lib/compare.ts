import { FOREIGN_LIMIT, watchForeign } from './quiet.js'
import { median } from './stats.js'

/** Something that is measured: ours or a peer. Each call is one trial in a fresh process. */
export interface Contender {
  name: string
  version: string
  measure(): Promise<number>
  /** At most so many trials, for what takes minutes and matters less; default: as many as asked. */
  trials?: number
}

export interface Unit {
  name: 'tok/s' | 'ms' | 'ops/s' | 'req/s' | 'bytes' | 'GB/s'
  better: 'higher' | 'lower'
}

export const UNITS = {
  tokensPerSecond: { name: 'tok/s', better: 'higher' },
  milliseconds: { name: 'ms', better: 'lower' },
  operationsPerSecond: { name: 'ops/s', better: 'higher' },
  requestsPerSecond: { name: 'req/s', better: 'higher' },
  bytes: { name: 'bytes', better: 'lower' },
  gigabytesPerSecond: { name: 'GB/s', better: 'higher' },
} as const satisfies Record<string, Unit>

/** One comparison, as it goes into the report. `ratio` above 1 means ours is better. */
export interface Row {
  bench: string
  case: string
  unit: string
  ours: number
  peer: { name: string; version: string; value: number }
  ratio: number
  /** Every trial in the order it ran. */
  trials: { ours: number[]; peer: number[] }
}

export interface Contest {
  unit: Unit
  ours: Contender
  peers: Contender[]
}

/** One case of a benchmark. Models and peers are made ready only when it is its turn. */
export interface Plan {
  bench: string
  name: string
  /** Takes so long that it runs only when it is asked for with --only. */
  slow?: boolean
  prepare(): Contest | Promise<Contest>
}

const MAX_REPEATS = 10

/** How a trial is watched for other programs; tests give their own. */
export type Watch = <T>(trial: () => Promise<T>) => Promise<[result: T, foreign: number]>

/**
 * One trial. When other programs took part of the machine meanwhile it is thrown away and repeated,
 * whatever it measured; if the machine never becomes quiet, the least disturbed one counts.
 */
async function measureUndisturbed(contender: Contender, watch: Watch): Promise<number> {
  let best = { value: Number.NaN, foreign: Number.POSITIVE_INFINITY }
  for (let repeat = 0; repeat <= MAX_REPEATS && best.foreign > FOREIGN_LIMIT; repeat++) {
    const [value, foreign] = await watch(() => contender.measure())
    if (foreign < best.foreign) best = { value, foreign }
    if (foreign > FOREIGN_LIMIT) {
      const share = Math.round(foreign * 100)
      process.stderr.write(`  ${contender.name}: other programs used ${share} % of the machine\n`)
    }
  }
  return best.value
}

/**
 * Measures all contenders in turn, A B A B, so that a change of the machine's speed meets all of
 * them, and compares medians.
 */
export async function runCase(
  plan: Plan,
  trials: number,
  onTrial: (contender: string, value: number, unit: string) => void,
  watch: Watch = watchForeign,
): Promise<Row[]> {
  const test = await plan.prepare()
  const contenders = [test.ours, ...test.peers]
  const values = contenders.map((): number[] => [])
  for (let trial = 0; trial < trials; trial++) {
    for (const [index, contender] of contenders.entries()) {
      if (trial >= (contender.trials ?? trials)) continue
      const value = await measureUndisturbed(contender, watch)
      if (!Number.isFinite(value) || value <= 0) {
        throw new Error(`${contender.name}: expected a positive measurement, got ${value}`)
      }
      values[index]?.push(value)
      onTrial(contender.name, value, test.unit.name)
    }
  }
  const ours = median(values[0] as number[])
  return test.peers.map((peer, index) => {
    const theirs = values[index + 1] as number[]
    const value = median(theirs)
    return {
      bench: plan.bench,
      case: plan.name,
      unit: test.unit.name,
      ours,
      peer: { name: peer.name, version: peer.version, value },
      ratio: test.unit.better === 'higher' ? ours / value : value / ours,
      trials: { ours: values[0] as number[], peer: theirs },
    }
  })
}
