/** Images of one word or number to read. */
import { drawText, randomStyle, textWidth } from './font.js'
import { LabelGrid } from './labels.js'
import { type Color, Raster, SIDE } from './raster.js'
import type { Rng } from './rng.js'

export interface WordImage {
  kind: 'word'
  raster: Raster
  labels: LabelGrid
  text: string
}

/** Draws `text` at a random place; `variety` in [0, 1] widens fonts, sizes and places. */
export function makeWordImage(rng: Rng, text: string, variety = 1): WordImage {
  const inverse = rng.chance(0.2 * variety)
  const light = 255 - rng.int(0, Math.round(25 * variety))
  const tint = (): number => rng.int(0, Math.round(90 * variety))
  const darkInk: Color = [tint(), tint(), tint()]
  const paper: Color = [light, light, light]
  const raster = new Raster(inverse ? darkInk : paper)
  const labels = new LabelGrid()
  let style = randomStyle(rng, rng.float(18 - 4 * variety, 18 + 6 * variety), variety)
  const room = SIDE - 8
  const wide = textWidth(text, style)
  if (wide > room) {
    const k = room / wide
    style = { ...style, height: style.height * k, gap: style.gap * k, stroke: style.stroke * k }
  }
  const spareX = SIDE - textWidth(text, style) - 6
  const spareY = SIDE - style.height - 6
  const spread = 0.15 + 0.85 * variety
  const x = 3 + spareX * (0.5 + (rng.float() - 0.5) * spread)
  const y = 3 + spareY * (0.5 + (rng.float() - 0.5) * spread)
  drawText(raster, labels, text, x, y, style, inverse ? paper : darkInk)
  return { kind: 'word', raster, labels, text }
}
