import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { countStates } from '../../lib/kv/pages.js'
import { kvPicture } from '../../lib/kv/picture.js'

const group = (states: string, pages_total = states.length) => ({
  page_bytes: 2048,
  pages_total,
  states,
})

/** Squares that are drawn with a class, the one of the legend included. */
const squares = (svg: string, name: string): number =>
  [...svg.matchAll(new RegExp(`<path class="${name}" d="([^"]*)"`, 'g'))]
    .map((match) => (match[1] ?? '').split('M').length - 1)
    .reduce((sum, count) => sum + count, 0)

describe('countStates', () => {
  it('counts; pages behind the end of the string are free', () => {
    expect(countStates(group('usc.su', 10))).toEqual({ u: 2, s: 2, c: 1, '.': 5 })
  })

  it('refuses a state it does not know', () => {
    expect(() => countStates(group('uxu'))).toThrow(/received 'x'/)
  })
})

describe('kvPicture', () => {
  it('draws a square for each page in its state, and a legend with counts', () => {
    const svg = kvPicture({ groups: [group('uuus.c', 64)] })
    expect(squares(svg, 'u')).toBe(3 + 1)
    expect(squares(svg, 's')).toBe(1 + 1)
    expect(squares(svg, 'c')).toBe(1 + 1)
    expect(squares(svg, 'f')).toBe(59 + 1)
    for (const text of ['used 3', 'shared 1', 'cached 1', 'free 59', '2.0 KiB a page']) {
      expect(svg).toContain(text)
    }
  })

  it('puts 64 pages into a row, by page id', () => {
    const svg = kvPicture({ groups: [group(`${'.'.repeat(65)}u`, 128)] })
    const places = [...svg.matchAll(/<path class="u" d="M(\d+) (\d+)/g)].map((match) =>
      match.slice(1),
    )
    const free = /<path class="f" d="M24 \d+h12v12h-12zM38 (\d+)/.exec(svg)
    const [, drawn] = places as [string[], string[]]
    expect(drawn?.[0]).toBe(String(24 + 14))
    expect(Number(drawn?.[1])).toBe(Number(free?.[1]) + 14)
  })

  it('ends a little behind the last page in use and tells the rest in words', () => {
    const svg = kvPicture({ groups: [group('u'.repeat(300), 100_000)] })
    expect(squares(svg, 'f') + squares(svg, 'u')).toBe(6 * 64 + 2)
    expect(svg).toContain(`… and ${100_000 - 6 * 64} more pages, all free`)
    const cut = kvPicture({ groups: [group(`${'u'.repeat(300)}sc`, 310)] }, { rows: 2 })
    expect(cut).toContain('… and 182 more pages: 172 used, 1 shared, 1 cached, 8 free')
    expect(cut.length).toBeLessThan(10_000)
  })

  it('names layer groups when there are several, and spilled pages when told', () => {
    const svg = kvPicture({ groups: [group('u'), group('c')] }, { spilled: 7 })
    expect(svg).toContain('layer group 2')
    expect(svg).toContain('spilled to disk 7')
    expect(kvPicture({ groups: [group('u')] })).not.toMatch(/layer group|spilled/)
  })

  it('says that stock memory has no pages', () => {
    expect(kvPicture({ groups: [] })).toContain('no pages')
  })

  it('takes a title from anywhere', () => {
    const svg = kvPicture({ groups: [] }, { title: '<script>"&\u0000\ud800</script>' })
    expect(svg).not.toContain('<script>')
    expect(svg).toContain('&#60;script&#62;&#34;&#38;··&#60;/script&#62;')
  })

  it('is an image in light and in dark', async () => {
    const svg = kvPicture({ groups: [group('usc.', 64)] }, { title: 'KV cache', subtitle: 'test' })
    expect(svg).toContain('prefers-color-scheme:dark')
    const { data, info } = await sharp(Buffer.from(svg)).removeAlpha().raw().toBuffer({
      resolveWithObject: true,
    })
    expect(info.width).toBe(2 * 24 + 64 * 14 - 2)
    const found = new Set<string>()
    for (let at = 0; at < data.length; at += 3) found.add(data.subarray(at, at + 3).toString('hex'))
    for (const color of ['2563eb', 'c2410c', '0f766e', 'ffffff']) expect(found).toContain(color)
  })
})
