/** Bar and line charts with axes, tick labels and category labels. */
import { drawText, type FontStyle, randomStyle, textWidth } from './font.js'
import { LabelGrid } from './labels.js'
import { type Color, Raster, SIDE } from './raster.js'
import type { Rng } from './rng.js'

/**
 * Tick steps of the value axis, each with the number of levels a step is divided into: values lie
 * on half ticks, on fifths where the step is 5 or 25, on ticks where it is 1.
 */
const STEPS: readonly (readonly [number, number])[] = [
  [1, 1],
  [2, 2],
  [5, 5],
  [10, 2],
  [20, 2],
  [25, 5],
  [50, 2],
  [100, 2],
]
const X_STEPS = [1, 2, 5, 10] as const
const INKS: readonly Color[] = [
  [31, 119, 180],
  [214, 39, 40],
  [44, 150, 54],
  [135, 60, 175],
  [230, 120, 20],
  [40, 40, 40],
]

interface Axis {
  step: number
  ticks: number
  /** Smallest difference between two values. */
  unit: number
}

export interface ChartPoint {
  /** Category letter of a bar chart, x value of a line chart. */
  label: string
  x: number
  value: number
}

export interface Chart {
  kind: 'bar' | 'line'
  raster: Raster
  labels: LabelGrid
  points: ChartPoint[]
  /** Largest labelled value of the value axis. */
  top: number
}

interface Frame {
  raster: Raster
  labels: LabelGrid
  left: number
  right: number
  bottom: number
  upper: number
  axis: Axis
  font: FontStyle
  ink: Color
}

function makeAxis(rng: Rng, variety: number): Axis {
  const [step, part] = rng.pick(variety < 0.5 ? STEPS.slice(3, 5) : STEPS)
  const ticks = part >= 5 ? rng.int(3, 4) : rng.int(3, 5)
  return { step, ticks, unit: step / part }
}

function makeFrame(rng: Rng, variety: number): Frame {
  const paper = 255 - rng.int(0, Math.round(12 * variety))
  const raster = new Raster([paper, paper, paper])
  const labels = new LabelGrid()
  const axis = makeAxis(rng, variety)
  const dark = rng.int(0, Math.round(70 * variety))
  const ink: Color = [dark, dark, dark]
  const font = randomStyle(rng, rng.float(8, 8 + 1.2 * variety), variety * 0.6)
  const wide = textWidth(String(axis.step * axis.ticks), font)
  const left = wide + 7 + rng.float(0, 6 * variety)
  const right = SIDE - 4 - rng.float(0, 10 * variety)
  const bottom = SIDE - 15 - rng.float(0, 8 * variety)
  const upper = 9 + rng.float(0, 12 * variety)
  const frame = { raster, labels, left, right, bottom, upper, axis, font, ink }
  drawFrame(rng, frame, variety)
  return frame
}

const shareOf = (f: Frame, value: number): number => value / (f.axis.step * f.axis.ticks)

const yOf = (f: Frame, value: number): number => f.bottom - shareOf(f, value) * (f.bottom - f.upper)

function drawFrame(rng: Rng, f: Frame, variety: number): void {
  const grid = rng.chance(0.4 * variety)
  for (let k = 0; k <= f.axis.ticks; k++) {
    const text = String(k * f.axis.step)
    const y = yOf(f, k * f.axis.step)
    if (grid && k > 0) f.raster.line([f.left, y], [f.right, y], 1, [215, 215, 215])
    f.raster.line([f.left - 3, y], [f.left, y], 1, f.ink)
    f.labels.tick(f.left - 1, y)
    const x = f.left - 5 - textWidth(text, f.font)
    drawText(f.raster, f.labels, text, x, y - f.font.height / 2, f.font, f.ink)
  }
  f.raster.line([f.left, f.upper - 3], [f.left, f.bottom], 1.2, f.ink)
  f.raster.line([f.left, f.bottom], [f.right, f.bottom], 1.2, f.ink)
}

function drawBelow(f: Frame, text: string, cx: number): void {
  const x = Math.min(cx - textWidth(text, f.font) / 2, SIDE - 1 - textWidth(text, f.font))
  drawText(f.raster, f.labels, text, x, f.bottom + 4, f.font, f.ink)
}

/** A bar chart of three to six bars; all values differ where `distinct`. */
export function makeBarChart(rng: Rng, variety = 1): Chart {
  const f = makeFrame(rng, variety)
  const count = rng.int(3, variety < 0.5 ? 4 : 6)
  const letters = rng.chance(0.5)
    ? [...'ABCDEF'].slice(0, count)
    : rng.sample([...'ABCDEFGHIJKLMNOPQRSTUVWXYZ'], count)
  const levels = Math.round((f.axis.step * f.axis.ticks) / f.axis.unit)
  const values = rng.sample(
    Array.from({ length: levels }, (_, i) => i + 1),
    count,
  )
  while (values.length < count) values.push(rng.int(1, levels))
  const slot = (f.right - f.left - 2) / count
  const half = slot * rng.float(0.28, 0.4)
  const many = rng.chance(0.3 * variety)
  const ink = rng.pick(INKS)
  const points = letters.map((label, i) => {
    const value = (values[i] as number) * f.axis.unit
    const cx = f.left + 2 + slot * (i + 0.5)
    const y = yOf(f, value)
    f.raster.rect(cx - half, y, cx + half, f.bottom, many ? rng.pick(INKS) : ink)
    f.labels.point(cx, y, label, shareOf(f, value))
    drawBelow(f, label, cx)
    return { label, x: i, value }
  })
  return {
    kind: 'bar',
    raster: f.raster,
    labels: f.labels,
    points,
    top: f.axis.step * f.axis.ticks,
  }
}

/** A line chart: a straight line with two marked ends, or a polyline of three to five points. */
export function makeLineChart(rng: Rng, variety = 1): Chart {
  const f = makeFrame(rng, variety)
  const straight = rng.chance(0.6)
  const xStep = rng.pick(variety < 0.5 ? [1] : X_STEPS)
  const xTicks = xStep >= 5 ? rng.int(3, 4) : rng.int(3, 6)
  const pad = 5
  const xOf = (k: number): number => f.left + pad + (k / xTicks) * (f.right - f.left - pad - 7)
  for (let k = 0; k <= xTicks; k++) {
    f.raster.line([xOf(k), f.bottom], [xOf(k), f.bottom + 3], 1, f.ink)
    drawBelow(f, String(k * xStep), xOf(k))
  }
  const levels = Math.round((f.axis.step * f.axis.ticks) / f.axis.unit)
  const all = Array.from({ length: xTicks + 1 }, (_, k) => k)
  const count = straight ? 2 : rng.int(3, Math.min(5, xTicks + 1))
  const spots = rng.sample(all, count).sort((a, b) => a - b)
  const ink = rng.pick(INKS)
  const width = rng.float(1.4, 2.2)
  const radius = rng.float(2.2, 3)
  const points = spots.map((k) => {
    const value = rng.int(0, levels) * f.axis.unit
    return { label: String(k * xStep), x: k * xStep, value, k, px: xOf(k), py: yOf(f, value) }
  })
  points.forEach((p, i) => {
    const previous = points[i - 1]
    if (previous) f.raster.line([previous.px, previous.py], [p.px, p.py], width, ink)
    f.labels.point(p.px, p.py, String(p.k), shareOf(f, p.value))
  })
  for (const p of points) f.raster.disc(p.px, p.py, radius, ink)
  return {
    kind: 'line',
    raster: f.raster,
    labels: f.labels,
    points: points.map(({ label, x, value }) => ({ label, x, value })),
    top: f.axis.step * f.axis.ticks,
  }
}

/** One sentence: "A line chart from (0, 10) to (6, 40)." or "A bar chart with A 5 and B 10." */
export function describeChart(chart: Chart): string {
  const p = chart.points
  if (chart.kind === 'line') {
    const [a, b] = [p[0], p[p.length - 1]] as [ChartPoint, ChartPoint]
    return `A line chart from (${a.x}, ${a.value}) to (${b.x}, ${b.value}).`
  }
  const items = p.map((q) => `${q.label} ${q.value}`)
  const last = items.pop() as string
  return `A bar chart with ${items.join(', ')} and ${last}.`
}
