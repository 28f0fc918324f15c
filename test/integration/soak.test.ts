import { expect, it } from 'vitest'
import { withNano } from '../helpers/real.js'
import { soak } from '../soak/soak.js'

it('100 mixed requests end as they should, and nothing is left', () =>
  withNano(async (engine) => {
    const report = await soak(engine, 100)
    expect(report.surprises).toEqual([])
    expect(report.finished + report.cancelled + report.failed).toBe(100)
    expect(report.failed).toBe(10)
    expect(report.cancelled).toBeGreaterThan(5)
    expect(engine.stats().requests).toMatchObject({ running: 0, waiting: 0 })
    // What is left of the pages is held for prompts that begin the same, and by nobody else.
    const { pages_used, pages_cached } = engine.stats().kv
    expect(pages_used - pages_cached).toBe(0)
  }))
