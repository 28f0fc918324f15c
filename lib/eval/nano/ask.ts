/** Questions about an image, with the answers its construction implies. */

import { type Chart, type ChartPoint, describeChart } from './chart.js'
import type { AnswerPart, ToolName, Turn } from './chat.js'
import type { Rng } from './rng.js'
import { COLORS, describeScene, PLACES, type Scene, SHAPES } from './scene.js'
import { failedResult, okResult, slope } from './tools.js'
import type { WordImage } from './wordimage.js'

export type Picture = Scene | Chart | WordImage

const CAPTION = [
  'Describe the image.',
  'What is in the image?',
  'What do you see?',
  'Describe this picture.',
  'What does the image show?',
]
const COUNT = [
  'How many shapes are there?',
  'How many objects are in the image?',
  'Count the shapes.',
]
const READ = ['What does it say?', 'Read the text.', 'What is written here?', 'Read the word.']
const EXPLAIN = [
  'Describe the chart.',
  'Explain this plot.',
  'Describe this plot.',
  'Explain the chart.',
]
const SLOPE = ['Compute the slope.', 'What is the slope?', 'What is the slope of the line?']
const BOTH = [
  'Explain this plot and compute the slope.',
  'Describe the chart and compute the slope.',
  'Describe this plot and find the slope.',
  'Explain the chart and give me the slope.',
  'Explain this chart and compute its slope.',
]
const KIND = ['What kind of image is this?', 'What type of picture is this?']
const FAILURES = ['timeout', 'out of budget', 'the tool is not available', 'bad arguments']

export const captionQuestion = (rng: Rng): string => rng.pick(CAPTION)
export const readQuestion = (rng: Rng): string => rng.pick(READ)
export const slopeQuestion = (rng: Rng): string => rng.pick(rng.chance(0.5) ? SLOPE : BOTH)

/** The caption of any generated picture. */
export function describe(picture: Picture): string {
  if (picture.kind === 'scene') return describeScene(picture.objects)
  if (picture.kind === 'word') return `It says "${picture.text}".`
  return describeChart(picture)
}

function sceneTurns(rng: Rng, scene: Scene): Turn[] {
  const count = scene.objects.length
  const turns: Turn[] = [
    { question: rng.pick(CAPTION), answer: [describeScene(scene.objects)] },
    {
      question: rng.pick(COUNT),
      answer: [count === 1 ? 'There is 1 shape.' : `There are ${count} shapes.`],
    },
  ]
  for (const object of scene.objects) {
    const [color, shape] = [COLORS[object.color], SHAPES[object.shape]]
    const place = PLACES[object.place]
    const article = color === 'orange' ? 'An' : 'A'
    turns.push({
      question: rng.pick([`What is at the ${place}?`, `Which shape is at the ${place}?`]),
      answer: [`${article} ${color} ${shape}.`],
    })
    const unique = (test: (o: (typeof scene.objects)[number]) => boolean): boolean =>
      scene.objects.filter(test).length === 1
    if (unique((o) => o.shape === object.shape)) {
      const question = rng.pick([`What color is the ${shape}?`, `Which color has the ${shape}?`])
      turns.push({ question, answer: [`The ${shape} is ${color}.`] })
      turns.push({
        question: `Where is the ${shape}?`,
        answer: [`The ${shape} is at the ${place}.`],
      })
    }
    if (unique((o) => o.color === object.color)) {
      turns.push({ question: `Which shape is ${color}?`, answer: [`The ${shape} is ${color}.`] })
    }
  }
  return turns
}

/** A question for the value of one point of a chart. */
export function valueTurn(rng: Rng, chart: Chart, point: ChartPoint): Turn {
  if (chart.kind === 'bar') {
    const question = rng.pick([
      `What is the value of ${point.label}?`,
      `How high is ${point.label}?`,
      `What is the value of bar ${point.label}?`,
    ])
    return { question, answer: [`The value of ${point.label} is ${point.value}.`] }
  }
  const question = rng.pick([
    `What is the value at x = ${point.x}?`,
    `What is y at x = ${point.x}?`,
    `Read the value at x = ${point.x}.`,
  ])
  return { question, answer: [`The value at x = ${point.x} is ${point.value}.`] }
}

function extremeTurn(rng: Rng, chart: Chart): Turn | undefined {
  const high = rng.chance(0.6)
  const sorted = [...chart.points].sort((a, b) => (high ? b.value - a.value : a.value - b.value))
  const [first, second] = sorted as [ChartPoint, ChartPoint]
  if (first.value === second.value) return undefined
  const name = high ? 'maximum' : 'minimum'
  if (chart.kind === 'bar') {
    const word = high ? 'highest' : 'lowest'
    const question = rng.pick([
      `Which bar is the ${word}?`,
      `What is the ${name}?`,
      `Which has the ${word} value?`,
    ])
    return { question, answer: [`${first.label} is the ${word} with ${first.value}.`] }
  }
  const question = rng.pick([`What is the ${name}?`, `Where is the ${name}?`])
  return { question, answer: [`The ${name} is ${first.value} at x = ${first.x}.`] }
}

/** First and last point of a line chart as the slope tool's arguments. */
export function slopeArgs(chart: Chart): { x1: number; y1: number; x2: number; y2: number } {
  const a = chart.points[0] as ChartPoint
  const b = chart.points[chart.points.length - 1] as ChartPoint
  return { x1: a.x, y1: a.value, x2: b.x, y2: b.value }
}

/** The slope question; without the tool the model says that it needs it. */
export function slopeTurn(rng: Rng, chart: Chart, tools: readonly ToolName[], fail = 0): Turn {
  const question = slopeQuestion(rng)
  const lead = BOTH.includes(question) ? [`${describeChart(chart)} `] : []
  if (chart.kind === 'bar') {
    return { question, answer: [...lead, 'A bar chart has no slope.'] }
  }
  if (!tools.includes('slope')) {
    return { question, answer: [...lead, 'I need the slope tool for that.'] }
  }
  const args = slopeArgs(chart)
  const failed = rng.chance(fail)
  const result = failed ? failedResult(rng.pick(FAILURES)) : okResult(slope(args))
  const answer: AnswerPart[] = [...lead, { call: { tool: 'slope', args }, result }]
  answer.push(failed ? 'The tool failed.' : `The slope is ${slope(args)}.`)
  return { question, answer }
}

function chartTurns(rng: Rng, chart: Chart, tools: readonly ToolName[]): Turn[] {
  const turns: Turn[] = [
    slopeTurn(rng, chart, tools, 0.04),
    { question: rng.pick(rng.chance(0.4) ? CAPTION : EXPLAIN), answer: [describeChart(chart)] },
  ]
  const extreme = extremeTurn(rng, chart)
  if (extreme) turns.push(extreme)
  for (const point of chart.points) turns.push(valueTurn(rng, chart, point))
  if (chart.kind === 'bar') {
    const answer = [`There are ${chart.points.length} bars.`]
    turns.push({ question: rng.pick(['How many bars are there?', 'Count the bars.']), answer })
  }
  return turns
}

/**
 * All questions the training may ask about a picture, in random order. `late`: in the part of
 * the curriculum where questions for single values of a bar chart tend to come first.
 */
export function pictureTurns(
  rng: Rng,
  picture: Picture,
  tools: readonly ToolName[],
  late = false,
): Turn[] {
  const kinds = { scene: 'A picture of shapes.', bar: 'A bar chart.', line: 'A line chart.' }
  const kind = picture.kind === 'word' ? 'A picture of text.' : kinds[picture.kind]
  const turns: Turn[] = []
  if (picture.kind === 'scene') turns.push(...sceneTurns(rng, picture))
  else if (picture.kind === 'word') {
    const question = rng.pick(rng.chance(0.3) ? CAPTION : READ)
    turns.push({ question, answer: [describe(picture)] })
    const length = picture.text.length
    const answer = [`It has ${length} ${length === 1 ? 'character' : 'characters'}.`]
    turns.push({ question: 'How many characters are there?', answer })
  } else turns.push(...chartTurns(rng, picture, tools))
  if (rng.chance(0.15)) turns.push({ question: rng.pick(KIND), answer: [kind] })
  return prioritise(rng, turns, late && picture.kind === 'bar')
}

/** Random order in which the first two questions (the richest) or those for values come early. */
function prioritise(rng: Rng, turns: Turn[], values: boolean): Turn[] {
  const lead = [0.4, 0.6]
  const weight = (turn: Turn, i: number): number =>
    values ? (String(turn.answer[0]).startsWith('The value') ? 0.4 : 1) : (lead[i] ?? 1)
  const keyed = turns.map((turn, i) => ({ turn, key: rng.float() * weight(turn, i) }))
  return keyed.sort((a, b) => a.key - b.key).map(({ turn }) => turn)
}
