import { describe, expect, test } from 'vitest'
import { type Contender, runCase, UNITS, type Watch } from './compare.js'
import { formatTable } from './report.js'
import { median } from './stats.js'

const ignore = (): void => {}
const undisturbed: Watch = async (trial) => [await trial(), 0]

function contender(name: string, values: number[], order: string[]): Contender {
  const left = [...values]
  return {
    name,
    version: '1',
    measure: async () => {
      order.push(name)
      return left.shift() ?? Number.NaN
    },
  }
}

describe('benchmark comparison', () => {
  test('median of odd, even and no counts', () => {
    expect(median([3, 1, 2])).toBe(2)
    expect(median([4, 1, 2, 3])).toBe(2.5)
    expect(() => median([])).toThrow(RangeError)
  })

  test('contenders run in turn and medians are compared', async () => {
    const order: string[] = []
    const contest = {
      unit: UNITS.tokensPerSecond,
      ours: contender('ours', [10, 30, 20], order),
      peers: [contender('peer', [10, 10, 40], order)],
    }
    const plan = { bench: 'b', name: 'c', prepare: () => contest }
    const [row] = await runCase(plan, 3, ignore, undisturbed)
    expect(order).toEqual(['ours', 'peer', 'ours', 'peer', 'ours', 'peer'])
    expect(row).toMatchObject({ ours: 20, peer: { name: 'peer', value: 10 }, ratio: 2 })
    expect(row?.trials).toEqual({ ours: [10, 30, 20], peer: [10, 10, 40] })
  })

  test('where less is better, a ratio above 1 still means ours is better', async () => {
    const contest = {
      unit: UNITS.milliseconds,
      ours: contender('ours', [5], []),
      peers: [contender('peer', [10], [])],
    }
    const [row] = await runCase(
      { bench: 'b', name: 'c', prepare: () => contest },
      1,
      ignore,
      undisturbed,
    )
    expect(row?.ratio).toBe(2)
    expect(formatTable(row === undefined ? [] : [row])).toContain('| 2.00 ')
  })

  test('a disturbed trial is repeated, even when it was the best', async () => {
    const order: string[] = []
    const foreign = [0.5, 0.01]
    const watch: Watch = async (trial) => [await trial(), foreign.shift() ?? 0]
    const contest = {
      unit: UNITS.tokensPerSecond,
      ours: contender('ours', [99, 10], order),
      peers: [contender('peer', [10], order)],
    }
    const plan = { bench: 'b', name: 'c', prepare: () => contest }
    const [row] = await runCase(plan, 1, ignore, watch)
    expect(order).toEqual(['ours', 'ours', 'peer'])
    expect(row?.ours).toBe(10)
  })

  test('a measurement that is none stops the run', async () => {
    const contest = { unit: UNITS.milliseconds, ours: contender('ours', [], []), peers: [] }
    const plan = { bench: 'b', name: 'c', prepare: () => contest }
    await expect(runCase(plan, 1, ignore, undisturbed)).rejects.toThrow(
      'expected a positive measurement',
    )
  })
})
