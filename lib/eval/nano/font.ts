/**
 * A stroke font drawn for this project: capital letters, digits, '-' and '.'.
 * A glyph is a list of polylines on a grid of 8 x 12 units (hexadecimal x and y, y downwards).
 */
import type { LabelGrid } from './labels.js'
import type { Color, Point, Raster } from './raster.js'
import type { Rng } from './rng.js'

const GLYPHS: Record<string, string> = {
  A: '0c 40 8c|18 78',
  B: '06 00 50 61 72 74 65 56 06 0c 5c 7b 8a 88 77 56',
  C: '82 60 20 02 0a 2c 6c 8a',
  D: '00 0c 4c 7b 89 83 71 40 00',
  E: '80 00 0c 8c|06 66',
  F: '80 00 0c|06 66',
  G: '82 60 20 02 0a 2c 6c 8a 87 57',
  H: '00 0c|80 8c|06 86',
  I: '40 4c|20 60|2c 6c',
  J: '80 8a 6c 2c 0a|50 80',
  K: '00 0c|80 07|35 8c',
  L: '00 0c 8c',
  M: '0c 00 47 80 8c',
  N: '0c 00 8c 80',
  O: '20 02 0a 2c 6c 8a 82 60 20',
  P: '0c 00 60 82 84 66 06',
  Q: '20 02 0a 2c 6c 8a 82 60 20|59 8c',
  R: '0c 00 60 82 84 66 06|46 8c',
  S: '82 60 20 02 04 26 66 88 8a 6c 2c 0a',
  T: '00 80|40 4c',
  U: '00 0a 2c 6c 8a 80',
  V: '00 4c 80',
  W: '00 2c 45 6c 80',
  X: '00 8c|80 0c',
  Y: '00 46 80|46 4c',
  Z: '00 80 0c 8c',
  '0': '30 12 1a 3c 5c 7a 72 50 30',
  '1': '22 40 4c|2c 6c',
  '2': '02 20 60 82 84 0c 8c',
  '3': '01 20 60 82 84 66 88 8a 6c 2c 0b|36 66',
  '4': '6c 60 08 88',
  '5': '80 10 06 25 65 87 8a 6c 2c 0b',
  '6': '71 50 30 03 0a 2c 6c 8a 88 66 26 08',
  '7': '00 80 3c',
  '8': '26 04 02 20 60 82 84 66 26 08 0a 2c 6c 8a 88 66',
  '9': '1b 3c 5c 89 82 60 20 02 04 26 66 84',
  '-': '16 76',
  '.': '4b 4c',
}

export interface FontStyle {
  /** Cap height in pixels. */
  height: number
  /** Glyph width as a share of the height. */
  aspect: number
  /** Stroke width in pixels. */
  stroke: number
  /** Horizontal shift of the top as a share of the height (italic). */
  slant: number
  /** Corners cut once, so that bowls look round. */
  round: boolean
  /** Small feet on stroke ends. */
  serif: boolean
  /** Gap between glyphs in pixels. */
  gap: number
}

/** A random style with the given cap height; `variety` 0 is upright and plain, 1 is everything. */
export function randomStyle(rng: Rng, height: number, variety = 1): FontStyle {
  const face = rng.float()
  const tiny = height < 10
  const weight = tiny ? rng.float(0.12, 0.17) : rng.float(0.09, 0.19)
  return {
    height,
    aspect: rng.float(0.6, 0.6 + 0.15 * variety),
    stroke: Math.max(1, height * weight),
    slant: face > 0.75 ? 0.18 * variety : 0,
    round: face > 0.35,
    serif: !tiny && variety > 0.5 && face < 0.2,
    gap: Math.max(tiny ? 1.6 : 2, height * rng.float(0.2, 0.32)),
  }
}

/** Width in pixels of `text` in `style`. */
export function textWidth(text: string, style: FontStyle): number {
  return text.length * style.height * style.aspect + (text.length - 1) * style.gap
}

/** Draws `text` with its top left corner at (x, y) and records each character in `labels`. */
export function drawText(
  raster: Raster,
  labels: LabelGrid,
  text: string,
  x: number,
  y: number,
  style: FontStyle,
  color: Color,
): void {
  const width = style.height * style.aspect
  let left = x
  for (const char of text) {
    const strokes = GLYPHS[char]
    if (strokes === undefined) throw new RangeError(`no glyph for ${JSON.stringify(char)}`)
    for (const stroke of strokes.split('|')) drawStroke(raster, stroke, left, y, style, color)
    labels.char(char, left, y, left + width, y + style.height)
    left += width + style.gap
  }
}

function drawStroke(
  raster: Raster,
  stroke: string,
  left: number,
  top: number,
  style: FontStyle,
  color: Color,
): void {
  let grid = stroke.split(' ').map((p): Point => [hex(p, 0), hex(p, 1)])
  if (style.round) grid = cutCorners(grid)
  const points = grid.map(([gx, gy]): Point => {
    const v = gy / 12
    const shift = style.slant * style.height * (0.5 - v)
    return [left + (gx / 8) * style.height * style.aspect + shift, top + v * style.height]
  })
  for (let i = 1; i < points.length; i++) {
    raster.line(points[i - 1] as Point, points[i] as Point, style.stroke, color)
  }
  if (!style.serif) return
  for (const end of [points[0] as Point, points[points.length - 1] as Point]) {
    const foot = style.height * 0.1
    raster.line([end[0] - foot, end[1]], [end[0] + foot, end[1]], style.stroke * 0.8, color)
  }
}

const hex = (pair: string, at: number): number => Number.parseInt(pair[at] as string, 16)

/** One step of Chaikin's corner cutting on corners of 90 degrees or wider; the ends stay. */
function cutCorners(points: readonly Point[]): Point[] {
  if (points.length < 3) return [...points]
  const out: Point[] = [points[0] as Point]
  for (let i = 1; i < points.length - 1; i++) {
    const [p, q, r] = [points[i - 1], points[i], points[i + 1]] as [Point, Point, Point]
    const dot = (q[0] - p[0]) * (r[0] - q[0]) + (q[1] - p[1]) * (r[1] - q[1])
    if (dot <= 0) out.push(q)
    else out.push(mix(q, p, 0.25), mix(q, r, 0.25))
  }
  out.push(points[points.length - 1] as Point)
  return out
}

const mix = (a: Point, b: Point, t: number): Point => [
  a[0] + (b[0] - a[0]) * t,
  a[1] + (b[1] - a[1]) * t,
]
