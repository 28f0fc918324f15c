import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { NANO_TASKS, type NanoItem, nanoItem } from './index.js'
import { curriculum, trainingRecord } from './record.js'
import { COLORS, PLACES } from './scene.js'
import { calculator, slope } from './tools.js'
import { HELD_OUT_WORDS, TRAIN_WORDS, WORDS } from './words.js'

const PINNED = '5865df0f7a35d26b06cedde050579f90337eed09e2813c3ea9229f438df4aee5'
const seeds = Array.from({ length: 60 }, (_, i) => i)
const items = NANO_TASKS.flatMap((task) => seeds.map((seed) => nanoItem(task, seed)))

const digest = (item: NanoItem): string => {
  const hash = createHash('sha256')
  const { image, ...rest } = item
  hash.update(JSON.stringify(rest))
  if (image) hash.update(image.data)
  return hash.digest('hex')
}

/** Mean colour of the pixels that differ clearly from the top left corner, in one grid cell. */
function inkOf(item: NanoItem, place: number): [number, number, number] | undefined {
  const { width, data } = item.image as NonNullable<NanoItem['image']>
  const sum = [0, 0, 0]
  let count = 0
  const cell = width / 3
  const at = (x: number, y: number, c: number): number => data[(y * width + x) * 3 + c] as number
  for (
    let y = Math.ceil(Math.floor(place / 3) * cell);
    y < (Math.floor(place / 3) + 1) * cell;
    y++
  ) {
    for (let x = Math.ceil((place % 3) * cell); x < ((place % 3) + 1) * cell; x++) {
      const far = [0, 1, 2].some((c) => Math.abs(at(x, y, c) - at(0, 0, c)) > 60)
      if (!far) continue
      count++
      for (const c of [0, 1, 2]) sum[c] = (sum[c] as number) + at(x, y, c)
    }
  }
  if (count < 60) return undefined
  return sum.map((v) => v / count) as [number, number, number]
}

describe('P-Nano generator', () => {
  it('gives the same bytes for the same seed, and others for another', () => {
    for (const item of items.slice(0, 20)) {
      expect(digest(nanoItem(item.task, item.seed))).toBe(digest(item))
    }
    expect(new Set(items.map(digest)).size).toBe(items.length)
  })

  it('keeps its bytes across versions (a change here needs a new model)', () => {
    const all = createHash('sha256')
    for (const item of items) all.update(digest(item))
    for (let i = 0; i < 20; i++) {
      const record = trainingRecord(1, i, i / 20)
      all.update(record.pixels).update(record.dense).update(JSON.stringify(record.after))
    }
    expect(all.digest('hex')).toBe(PINNED)
  })

  it('gives images of 128 x 128 RGB that are not blank', () => {
    for (const item of items) {
      if (!item.image) continue
      expect(item.image.data.length).toBe(128 * 128 * 3)
      expect([item.image.width, item.image.height]).toEqual([128, 128])
      expect(new Set(item.image.data).size).toBeGreaterThan(8)
    }
  })

  it('captions name places where there is ink of about that colour', () => {
    const hues: Record<string, (r: number, g: number, b: number) => boolean> = {
      red: (r, g, b) => r > g + 60 && r > b + 60,
      green: (r, g, b) => g > r + 30 && g > b + 30,
      blue: (r, g, b) => b > r + 60 && b > g + 40,
      yellow: (r, g, b) => r > 150 && g > 130 && b < g - 50,
      orange: (r, g, b) => r > g + 30 && g > b + 40,
      purple: (r, g, b) => r > g + 20 && b > g + 40,
      black: (r, g, b) => Math.max(r, g, b) < 130,
      gray: (r, g, b) => Math.max(r, g, b) - Math.min(r, g, b) < 60 && r > 80,
    }
    let checked = 0
    for (const item of items.filter((i) => i.task === 'caption')) {
      const objects = item.answer.matchAll(/(\w+) \w+ at the ([a-z ]+?)(?=,| and |\.)/g)
      for (const [, color, place] of objects) {
        const ink = inkOf(item, PLACES.indexOf(place as (typeof PLACES)[number]))
        expect(COLORS).toContain(color)
        expect(ink && hues[color as string]?.(...ink), `${item.seed}: ${item.answer}`).toBe(true)
        checked++
      }
    }
    expect(checked).toBeGreaterThan(seeds.length)
  })

  it('answers agree with values, calls and tools', () => {
    for (const item of items) {
      if (item.call?.tool === 'slope') {
        const args = item.call.args as Parameters<typeof slope>[0]
        expect(item.value).toBe(slope(args))
        expect(item.tools).toContain('slope')
        expect(item.answer.endsWith(`The slope is ${item.value}.`)).toBe(true)
      }
      if (item.call?.tool === 'calculator') {
        const args = item.call.args as Parameters<typeof calculator>[0]
        expect(item.answer).toBe(`The result is ${calculator(args)}.`)
        expect(item.image).toBeUndefined()
      }
      if (item.task === 'chart_value') expect(item.answer).toContain(`is ${item.value}.`)
      if (item.task === 'ocr') expect(WORDS).toContain(item.answer.split('"')[1])
    }
  })

  it('holds words out of the training', () => {
    expect(HELD_OUT_WORDS.filter((word) => TRAIN_WORDS.includes(word))).toEqual([])
    expect(HELD_OUT_WORDS.length + TRAIN_WORDS.length).toBe(WORDS.length)
    expect(WORDS.every((word) => /^[A-Z]{2,6}$/.test(word))).toBe(true)
    expect(new Set(WORDS).size).toBe(WORDS.length)
  })

  it('training records are deterministic, labelled, and widen along the curriculum', () => {
    for (let i = 0; i < 40; i++) {
      const record = trainingRecord(1, i, 1)
      const again = trainingRecord(1, i, 1)
      expect(Buffer.compare(again.pixels, record.pixels)).toBe(0)
      expect(JSON.stringify(again.after)).toBe(JSON.stringify(record.after))
      expect(record.dense.some((label) => label > 0 && label < 255)).toBe(true)
      expect(record.before.startsWith('<bos>')).toBe(true)
      for (const segment of [...record.after, ...record.alone]) {
        expect(segment.parts[segment.parts.length - 1]).toEqual({ text: '<|end|>', loss: true })
      }
    }
    expect(curriculum(0)).toEqual({ variety: 0, count: 1, letters: 2 })
    expect(curriculum(1)).toEqual({ variety: 1, count: 3, letters: 6 })
  })

  it('rounds like the tools and refuses what has no answer', () => {
    expect(slope({ x1: 0, y1: 0, x2: 3, y2: 10 })).toBe(3.33)
    expect(slope({ x1: 0, y1: 10, x2: 3, y2: 0 })).toBe(-3.33)
    expect(calculator({ op: 'div', a: 1, b: 8 })).toBe(0.13)
    expect(() => calculator({ op: 'div', a: 1, b: 0 })).toThrow(RangeError)
    expect(() => slope({ x1: 1, y1: 0, x2: 1, y2: 5 })).toThrow(RangeError)
    expect(() => nanoItem('nonsense' as never, 1)).toThrow(RangeError)
  })
})
