/**
 * P-Nano's tasks: the one generator behind its training data and `mm eval nano`.
 *
 * Everything is a pure function of (task, seed). Evaluation items and training records draw from
 * differently salted generators, so no evaluation item is ever trained on.
 */
import { captionQuestion, describe, readQuestion, slopeArgs, slopeTurn, valueTurn } from './ask.js'
import { type Chart, type ChartPoint, makeBarChart, makeLineChart } from './chart.js'
import { answerText, type Turn } from './chat.js'
import type { Raster } from './raster.js'
import { Rng } from './rng.js'
import { makeScene } from './scene.js'
import { randomSum, sumTurn } from './texttasks.js'
import { calculator, slope } from './tools.js'
import { makeWordImage } from './wordimage.js'
import { HELD_OUT_WORDS, TRAIN_WORDS } from './words.js'

export type NanoTask = 'caption' | 'chart_value' | 'slope' | 'ocr' | 'tool_call'
export const NANO_TASKS: readonly NanoTask[] = [
  'caption',
  'chart_value',
  'slope',
  'ocr',
  'tool_call',
]

export interface NanoImage {
  width: number
  height: number
  /** RGB, row-major, 3 * width * height bytes. */
  data: Uint8Array
}

export interface NanoItem {
  task: NanoTask
  seed: number
  question: string
  image?: NanoImage
  /** Where the question stands relative to the image. */
  order: 'image-first' | 'text-first'
  /** Names of the allowed tools, in the order the model sees them. */
  tools: string[]
  /** Final text expected: all words of the answer, without tool calls. */
  answer: string
  /** chart_value: the number asked for; slope: the slope; tool_call: the tool's result. */
  value?: number
  /** The first tool call expected. */
  call?: { tool: string; args: Record<string, unknown> }
  /** What the item is made of, to report results by range. */
  group: string
}

const image = (raster: Raster): NanoImage => ({
  width: raster.width,
  height: raster.height,
  data: raster.data,
})

/** The value axis, coarsely, to report results by range. */
function rangeName(chart: Chart): string {
  if (chart.top <= 10) return 'axis to 10'
  return chart.top <= 100 ? 'axis to 100' : 'axis above 100'
}

function captionItem(rng: Rng, seed: number): NanoItem {
  const scene = makeScene(rng, rng.int(1, 3))
  const group = `${scene.objects.length} shapes`
  const question = captionQuestion(rng)
  return base('caption', seed, rng, question, describe(scene), scene.raster, group)
}

function chartItem(rng: Rng, seed: number): NanoItem {
  const chart = rng.chance(0.5) ? makeBarChart(rng) : makeLineChart(rng)
  const point = rng.pick(chart.points) as ChartPoint
  const turn = valueTurn(rng, chart, point)
  const group = `${chart.kind}, ${rangeName(chart)}`
  const item = base(
    'chart_value',
    seed,
    rng,
    turn.question,
    answerText(turn.answer),
    chart.raster,
    group,
  )
  return { ...item, value: point.value }
}

function slopeItem(rng: Rng, seed: number, task: NanoTask): NanoItem {
  const chart = makeLineChart(rng)
  const tools = rng.pick([['slope'], ['slope', 'calculator'], ['calculator', 'slope']] as const)
  const turn = slopeTurn(rng, chart, tools)
  const shape = chart.points.length === 2 ? 'straight' : 'polyline'
  const group = `${shape}, ${rangeName(chart)}`
  const item = base(task, seed, rng, turn.question, answerText(turn.answer), chart.raster, group)
  const args = slopeArgs(chart)
  return { ...item, tools: [...tools], value: slope(args), call: { tool: 'slope', args } }
}

function ocrItem(rng: Rng, seed: number): NanoItem {
  const known = rng.chance(0.5)
  const text = rng.pick(known ? TRAIN_WORDS : HELD_OUT_WORDS)
  const word = makeWordImage(rng, text)
  const group = `${known ? 'trained' : 'held-out'} word, ${text.length} letters`
  return base('ocr', seed, rng, readQuestion(rng), describe(word), word.raster, group)
}

function toolItem(rng: Rng, seed: number): NanoItem {
  if (rng.chance(0.5)) return slopeItem(rng, seed, 'tool_call')
  const tools = rng.pick([
    ['calculator'],
    ['slope', 'calculator'],
    ['calculator', 'slope'],
  ] as const)
  const sum = randomSum(rng)
  const turn: Turn = sumTurn(rng, sum, tools)
  const item = base(
    'tool_call',
    seed,
    rng,
    turn.question,
    answerText(turn.answer),
    undefined,
    'sum',
  )
  const call = { tool: 'calculator', args: { ...sum } }
  return { ...item, tools: [...tools], value: calculator(sum), call }
}

function base(
  task: NanoTask,
  seed: number,
  rng: Rng,
  question: string,
  answer: string,
  raster: Raster | undefined,
  group: string,
): NanoItem {
  const order = rng.chance(0.5) ? 'image-first' : 'text-first'
  const item: NanoItem = { task, seed, question, order, tools: [], answer, group }
  return raster === undefined ? item : { ...item, image: image(raster) }
}

/** The evaluation item number `seed` of a task; throws RangeError for an unknown task. */
export function nanoItem(task: NanoTask, seed: number): NanoItem {
  const rng = new Rng(`eval:${task}:${seed}`)
  switch (task) {
    case 'caption':
      return captionItem(rng, seed)
    case 'chart_value':
      return chartItem(rng, seed)
    case 'slope':
      return slopeItem(rng, seed, 'slope')
    case 'ocr':
      return ocrItem(rng, seed)
    case 'tool_call':
      return toolItem(rng, seed)
    default:
      throw new RangeError(`unknown task ${JSON.stringify(task)}`)
  }
}
