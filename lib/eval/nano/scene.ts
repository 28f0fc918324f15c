/** Scenes of one to three coloured shapes on a loose 3 x 3 grid. */
import { LabelGrid } from './labels.js'
import { type Color, type Point, Raster, SIDE } from './raster.js'
import type { Rng } from './rng.js'

export const COLORS = [
  'red',
  'green',
  'blue',
  'yellow',
  'orange',
  'purple',
  'black',
  'gray',
] as const
export const SHAPES = ['circle', 'square', 'triangle', 'star', 'diamond', 'cross'] as const
export const PLACES = [
  'top left',
  'top',
  'top right',
  'left',
  'center',
  'right',
  'bottom left',
  'bottom',
  'bottom right',
] as const

const RGB: readonly Color[] = [
  [214, 39, 40],
  [44, 150, 54],
  [40, 80, 210],
  [245, 215, 40],
  [250, 135, 25],
  [135, 60, 175],
  [25, 25, 25],
  [130, 130, 130],
]

export interface SceneObject {
  color: number
  shape: number
  place: number
}

export interface Scene {
  kind: 'scene'
  raster: Raster
  labels: LabelGrid
  /** In reading order. */
  objects: SceneObject[]
}

/** Draws a scene with `count` objects; `variety` in [0, 1] widens jitter, sizes and grounds. */
export function makeScene(rng: Rng, count: number, variety = 1): Scene {
  const paper = 255 - rng.int(0, Math.round(25 * variety))
  const raster = new Raster([paper, paper - rng.int(0, 6), paper - rng.int(0, 10)])
  const labels = new LabelGrid()
  const places = rng.sample([0, 1, 2, 3, 4, 5, 6, 7, 8], count).sort((a, b) => a - b)
  const objects = places.map((place) => {
    const object = { color: rng.int(0, COLORS.length - 1), shape: rng.int(0, 5), place }
    drawObject(raster, labels, rng, object, variety)
    return object
  })
  return { kind: 'scene', raster, labels, objects }
}

function drawObject(
  raster: Raster,
  labels: LabelGrid,
  rng: Rng,
  object: SceneObject,
  variety: number,
): void {
  const cell = SIDE / 3
  const r = rng.float(15 - 3.5 * variety, 15 + 3 * variety)
  const slack = Math.max(0, cell / 2 - r - 1) + 2 * variety
  const at = (k: number): number => {
    const free = (k + 0.5) * cell + rng.float(-slack, slack)
    return Math.max(r + 1, Math.min(SIDE - r - 1, free))
  }
  const cx = at(object.place % 3)
  const cy = at(Math.floor(object.place / 3))
  const base = RGB[object.color] as Color
  const shade = (v: number): number => {
    return Math.max(0, Math.min(255, Math.round(v + rng.float(-14, 14) * variety)))
  }
  const color: Color = [shade(base[0]), shade(base[1]), shade(base[2])]
  const covers = drawShape(raster, object.shape, cx, cy, r, color)
  labels.object(object.color, object.shape, [cx - r, cy - r, cx + r, cy + r], covers)
}

/** Draws one shape of half-width `r` around (cx, cy); returns its (approximate) inside test. */
function drawShape(
  raster: Raster,
  shape: number,
  cx: number,
  cy: number,
  r: number,
  color: Color,
): (x: number, y: number) => boolean {
  const name = SHAPES[shape]
  if (name === 'circle') {
    raster.disc(cx, cy, r, color)
    return (x, y) => Math.hypot(x - cx, y - cy) < r
  }
  if (name === 'square') {
    const s = r * 0.88
    raster.rect(cx - s, cy - s, cx + s, cy + s, color)
    return (x, y) => Math.max(Math.abs(x - cx), Math.abs(y - cy)) < s
  }
  if (name === 'cross') {
    const w = r * 0.3
    raster.rect(cx - r, cy - w, cx + r, cy + w, color)
    raster.rect(cx - w, cy - r, cx + w, cy + r, color)
    return (x, y) => Math.min(Math.abs(x - cx), Math.abs(y - cy)) < w + 1
  }
  const points = outline(name === 'triangle' ? 3 : name === 'star' ? 5 : 4, cx, cy, r)
  raster.polygon(points, color)
  return (x, y) => Math.hypot(x - cx, y - cy) < r * 0.75
}

function outline(corners: number, cx: number, cy: number, r: number): Point[] {
  const turn = (k: number, n: number, radius: number): Point => {
    const angle = (2 * Math.PI * k) / n - Math.PI / 2
    return [cx + radius * Math.cos(angle), cy + radius * Math.sin(angle)]
  }
  if (corners === 3) {
    return [
      [cx, cy - r],
      [cx + r, cy + r * 0.8],
      [cx - r, cy + r * 0.8],
    ]
  }
  if (corners === 5) {
    return Array.from({ length: 10 }, (_, k) => turn(k, 10, k % 2 === 0 ? r * 1.1 : r * 0.45))
  }
  return Array.from({ length: 4 }, (_, k) => turn(k, 4, k % 2 === 0 ? r * 1.1 : r * 0.8))
}

/** "A red circle at the top left, a blue square at the center and a gray star at the right." */
export function describeScene(objects: readonly SceneObject[]): string {
  const names = objects.map((o, i) => {
    const article = COLORS[o.color] === 'orange' ? 'an' : 'a'
    const lead = i === 0 ? `${article[0]?.toUpperCase()}${article.slice(1)}` : article
    return `${lead} ${COLORS[o.color]} ${SHAPES[o.shape]} at the ${PLACES[o.place]}`
  })
  const last = names.pop() as string
  return names.length === 0 ? `${last}.` : `${names.join(', ')} and ${last}.`
}
