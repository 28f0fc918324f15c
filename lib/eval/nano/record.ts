/** One training record: a picture, its dense labels and dialogs, all from (seed, index). */
import { pictureTurns } from './ask.js'
import { renderSystem, renderTurns, type TextPart, type ToolName } from './chat.js'
import { type Difficulty, type PictureKind, trainingPicture } from './picture.js'
import { Rng } from './rng.js'
import { randomSum, selfTurn, sumTurn } from './texttasks.js'

/** A dialog as tokens see it: text before the image, then text after it (or text alone). */
export interface Segment {
  parts: TextPart[]
}

export interface TrainingRecord {
  /** RGB, row-major, 128 x 128. */
  pixels: Uint8Array
  /** Six planes of 16 x 16 class indices: color, shape, text, mark, category, level. */
  dense: Uint8Array
  kind: PictureKind
  /** Text before the image (its begin token is added by the reader). */
  before: string
  /** Each continues independently after the image's tokens and its end token. */
  after: Segment[]
  /** Dialogs that have no image; they start with `<bos>`. */
  alone: Segment[]
}

/** Shares of the kinds of pictures: line charts most, for four numbers must all be right. */
const MIXTURE: readonly PictureKind[] = [
  ...(['scene', 'scene', 'bar', 'bar', 'bar'] as const),
  ...(['line', 'line', 'line', 'line', 'word', 'word', 'word'] as const),
]
/** Shares in between: what is learned last (a bar's value by its letter) gets most. */
const LATE_MIXTURE: readonly PictureKind[] = [
  ...(['scene', 'bar', 'bar', 'bar', 'bar', 'bar', 'bar'] as const),
  ...(['line', 'line', 'line', 'word', 'word'] as const),
]
/** From where to where, in lengths of the curriculum, the late mixture holds. */
const LATE = [0.985, 1.66] as const
const MESSAGES = ['Be brief.', 'You are a helpful assistant.', 'Answer in one sentence.']

/** Difficulty and mixture along the curriculum; `progress` in [0, 1]. */
export function curriculum(progress: number): Difficulty {
  const ramp = Math.max(0, Math.min(1, progress / 0.35))
  return {
    variety: ramp,
    count: progress < 0.06 ? 1 : progress < 0.14 ? 2 : 3,
    letters: progress < 0.06 ? 2 : progress < 0.14 ? 4 : 6,
  }
}

function randomTools(rng: Rng): ToolName[] {
  const draw = rng.float()
  if (draw < 0.15) return []
  if (draw < 0.4) return ['slope']
  if (draw < 0.5) return ['calculator']
  return draw < 0.75 ? ['calculator', 'slope'] : ['slope', 'calculator']
}

function aloneSegment(rng: Rng): Segment {
  const tools = randomTools(rng)
  const message = rng.chance(0.08) ? rng.pick(MESSAGES) : ''
  const turns = [rng.chance(0.7) ? sumTurn(rng, randomSum(rng), tools, 0.04) : selfTurn(rng)]
  if (rng.chance(0.15)) turns.push(selfTurn(rng))
  const head = `<bos>${renderSystem(tools, message)}<|user|>${turns[0]?.question}`
  return { parts: [{ text: head, loss: false }, ...renderTurns(turns)] }
}

/** The record number `index` of the stream `seed`; `progress` is its place in the curriculum. */
export function trainingRecord(seed: number, index: number, progress: number): TrainingRecord {
  const rng = new Rng(`train:${seed}:${index}`)
  const late = progress >= LATE[0] && progress < LATE[1]
  const kind = rng.pick(late ? LATE_MIXTURE : MIXTURE)
  const picture = trainingPicture(rng, kind, curriculum(progress))
  const tools = randomTools(rng)
  const message = rng.chance(0.08) ? rng.pick(MESSAGES) : ''
  const turns = pictureTurns(rng, picture, tools, late)
  const head = `<bos>${renderSystem(tools, message)}<|user|>`
  const base = { pixels: picture.raster.data, dense: picture.labels.planes(), kind }
  const alone = rng.chance(late ? 0.2 : 0.4) ? [aloneSegment(rng)] : []
  if (rng.chance(0.25)) {
    const after = [{ parts: renderTurns(turns.slice(0, 2)) }]
    return { ...base, before: `${head}${turns[0]?.question}`, after, alone }
  }
  const after: Segment[] = []
  for (let i = 0; i < turns.length; i++) {
    const pair = rng.chance(0.12) ? turns.slice(i, i + 2) : turns.slice(i, i + 1)
    if (pair.length === 2) i++
    after.push({ parts: renderTurns(pair, pair[0]?.question) })
  }
  return { ...base, before: head, after, alone }
}
