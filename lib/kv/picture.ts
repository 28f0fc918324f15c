import type { KvPages } from '../engine.js'
import { countStates, type KvPageGroup, type KvPageState } from './pages.js'

export interface PictureOptions {
  title?: string
  /** A line under the title. */
  subtitle?: string
  /** Pages in the spill file: they have no place in the pool, so only their number is shown. */
  spilled?: number
  /** Rows drawn of each pool, at most; default 64. What lies behind them is told in words. */
  rows?: number
}

/** A row is a slab: the pages that are taken from the system and given back together. */
const COLUMNS = 64
const CELL = 12
const GAP = 2
const MARGIN = 24
const LINE = 20
const DEFAULT_ROWS = 64
const FEWEST_ROWS = 4

/** Fill of a state on a light and on a dark page; free is an outline, so that colour is not needed. */
const STATES: readonly { state: KvPageState; name: string; light: string; dark: string }[] = [
  { state: 'u', name: 'used', light: '#2563eb', dark: '#60a5fa' },
  { state: 's', name: 'shared', light: '#c2410c', dark: '#fb923c' },
  { state: 'c', name: 'cached', light: '#0f766e', dark: '#2dd4bf' },
  { state: '.', name: 'free', light: 'none', dark: 'none' },
]
const CLASS_OF: Record<KvPageState, string> = { u: 'u', s: 's', c: 'c', '.': 'f' }

/**
 * Draws the page pools of an engine as an SVG document: a square for each page, 64 in a row, and a
 * legend with counts. Follows the reader's light or dark theme.
 */
export function kvPicture(pages: KvPages, options: PictureOptions = {}): string {
  const body: string[] = []
  let y = MARGIN
  const line = (text: string, cssClass = ''): void => {
    y += LINE
    body.push(
      `<text x="${MARGIN}" y="${y - 5}"${classAttribute(cssClass)}>${escapeXml(text)}</text>`,
    )
  }
  line(options.title ?? 'KV cache', 'title')
  if (options.subtitle !== undefined) line(options.subtitle, 'quiet')
  if (pages.groups.length === 0) line('no pages: this engine has llama.cpp’s own KV memory')
  for (const [index, group] of pages.groups.entries()) {
    if (pages.groups.length > 1) line(`layer group ${index + 1}`)
    body.push(legend(group, options.spilled, y))
    y += LINE + GAP
    const drawn = drawnRows(group, options.rows ?? DEFAULT_ROWS)
    body.push(grid(group, drawn, y))
    y += drawn * (CELL + GAP) + GAP
    const rest = restOf(group, drawn)
    if (rest !== '') line(rest, 'quiet')
    y += LINE / 2
  }
  return document(2 * MARGIN + COLUMNS * (CELL + GAP) - GAP, y + MARGIN / 2, body)
}

/** Up to the last page that is not free, and a few more: a pool is mostly free at its end. */
function drawnRows({ pages_total, states }: KvPageGroup, limit: number): number {
  const used = states.replace(/\.+$/, '').length
  const rows = Math.max(FEWEST_ROWS, Math.ceil(used / COLUMNS) + 1)
  return Math.min(limit, rows, Math.ceil(pages_total / COLUMNS))
}

function restOf(group: KvPageGroup, rows: number): string {
  const from = rows * COLUMNS
  const count = group.pages_total - from
  if (count <= 0) return ''
  const rest = countStates({ ...group, pages_total: count, states: group.states.slice(from) })
  const held = STATES.filter(({ state }) => state !== '.' && rest[state] > 0)
  if (held.length === 0) return `… and ${count} more pages, all free`
  const names = held.map(({ state, name }) => `${rest[state]} ${name}, `).join('')
  return `… and ${count} more pages: ${names}${rest['.']} free`
}

/** Equal pages beside each other are one path: pools of 100,000 pages stay small files. */
function grid({ pages_total, states }: KvPageGroup, rows: number, top: number): string {
  const paths = new Map<string, string[]>()
  const count = Math.min(rows * COLUMNS, pages_total)
  for (let page = 0; page < count; page++) {
    const x = MARGIN + (page % COLUMNS) * (CELL + GAP)
    const y = top + Math.floor(page / COLUMNS) * (CELL + GAP)
    const cssClass = CLASS_OF[(states[page] ?? '.') as KvPageState]
    const path = paths.get(cssClass) ?? []
    path.push(`M${x} ${y}h${CELL}v${CELL}h-${CELL}z`)
    paths.set(cssClass, path)
  }
  return [...paths].map(([name, path]) => `<path class="${name}" d="${path.join('')}"/>`).join('\n')
}

function legend(group: KvPageGroup, spilled: number | undefined, top: number): string {
  const counts = countStates(group)
  const y = top + 4
  let x = MARGIN
  const items = STATES.map(({ state, name }) => {
    const text = `${name} ${counts[state]}`
    const item =
      `<path class="${CLASS_OF[state]}" d="M${x} ${y}h${CELL}v${CELL}h-${CELL}z"/>` +
      `<text x="${x + CELL + 6}" y="${y + CELL - 2}">${text}</text>`
    x += CELL + 24 + 8 * text.length
    return item
  })
  const notes = [`${(group.page_bytes / 1024).toFixed(1)} KiB a page of 32 tokens`]
  if (spilled !== undefined) notes.unshift(`spilled to disk ${spilled}`)
  items.push(`<text class="quiet" x="${x}" y="${y + CELL - 2}">${notes.join(' · ')}</text>`)
  return items.join('\n')
}

function document(width: number, height: number, body: readonly string[]): string {
  const fills = (theme: 'light' | 'dark') =>
    STATES.map((entry) => `.${CLASS_OF[entry.state]}{fill:${entry[theme]}}`).join('')
  const style = [
    'text{font:13px system-ui,sans-serif;fill:#1f2937}.title{font-size:16px;font-weight:600}',
    `.quiet{fill:#6b7280}.f{stroke:#9ca3af}.paper{fill:#ffffff}${fills('light')}`,
    '@media (prefers-color-scheme:dark){text{fill:#e5e7eb}.quiet{fill:#9ca3af}',
    `.f{stroke:#6b7280}.paper{fill:#111827}${fills('dark')}}`,
  ].join('')
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Pages of the KV cache">`,
    `<style>${style}</style>`,
    `<rect class="paper" width="${width}" height="${height}"/>`,
    ...body,
    '</svg>',
    '',
  ].join('\n')
}

const classAttribute = (name: string): string => (name === '' ? '' : ` class="${name}"`)

/** Titles hold names from model files: nothing in them may become markup or a control character. */
function escapeXml(text: string): string {
  return text
    .replace(/[\p{Cc}\u2028\u2029\uFFFE\uFFFF]|\p{Cs}/gu, '·')
    .replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
