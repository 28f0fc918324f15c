import { describe, expect, it } from 'vitest'
import { buildPercent, Progress } from './progress.mjs'

function recorder() {
  const lines = []
  return { stream: { write: (text) => lines.push(text) }, text: () => lines.join('') }
}

describe('Progress', () => {
  it('prints plain lines where there is no terminal', async () => {
    const { stream, text } = recorder()
    const progress = new Progress(2, stream)
    await progress.step('first', async (step) => {
      for (const fraction of [0.1, 0.3, 0.31, 0.8, 1]) step.percent(fraction)
      return 'built'
    })
    await expect(progress.step('second', () => Promise.reject(new Error('x')))).rejects.toThrow('x')
    const shown = text().replaceAll(/\d+\.\d s/g, 'T')
    expect(shown).toBe(
      '[1/2] first 30 % (T)\n[1/2] first 80 % (T)\n[1/2] first: built (T)\n[2/2] second: failed (T)\n',
    )
  })

  it('understands Ninja and Make', () => {
    const seen = []
    const feed = buildPercent((fraction) => seen.push(fraction))
    feed('[1/4] Building\n[3/4] Building')
    feed('[ 50%] Building')
    feed('warning: nothing to see')
    expect(seen).toEqual([0.75, 0.5])
  })
})
