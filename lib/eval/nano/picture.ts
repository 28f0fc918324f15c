/** One random picture of a kind. */
import type { Picture } from './ask.js'
import { makeBarChart, makeLineChart } from './chart.js'
import type { Rng } from './rng.js'
import { makeScene } from './scene.js'
import { makeWordImage } from './wordimage.js'
import { TRAIN_WORDS } from './words.js'

export type PictureKind = 'scene' | 'bar' | 'line' | 'word'

/**
 * Difficulty of the training pictures: `variety` in [0, 1] widens fonts, sizes, places and ranges,
 * `count` is the largest number of shapes, `letters` the longest text.
 */
export interface Difficulty {
  variety: number
  count: number
  letters: number
}

const LETTERS = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZ']

function trainingText(rng: Rng, longest: number): string {
  const kind = rng.float()
  if (kind < 0.5) {
    const words = TRAIN_WORDS.filter((word) => word.length <= longest)
    if (words.length > 0) return rng.pick(words)
  }
  const length = rng.int(1, longest)
  const from = kind < 0.85 ? LETTERS : [...'0123456789']
  return Array.from({ length }, () => rng.pick(from)).join('')
}

/** A training picture. */
export function trainingPicture(rng: Rng, kind: PictureKind, level: Difficulty): Picture {
  if (kind === 'scene') return makeScene(rng, rng.int(1, level.count), level.variety)
  if (kind === 'bar') return makeBarChart(rng, level.variety)
  if (kind === 'line') return makeLineChart(rng, level.variety)
  return makeWordImage(rng, trainingText(rng, level.letters), level.variety)
}
