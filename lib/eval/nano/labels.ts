/**
 * Dense labels for training: what is where, on a grid of 16 x 16 patches of 8 x 8 pixels.
 * They are a by-product of drawing; the evaluation does not use them.
 */
import { CHARSET } from './charset.js'
import { SIDE } from './raster.js'

export const PATCH = 8
export const GRID = SIDE / PATCH
/** Left out of the loss. */
export const IGNORE = 255

/** Parts of the value axis that the `level` plane tells apart. */
export const LEVELS = 20

const cellAt = (x: number, y: number): number | undefined => {
  if (x < 0 || y < 0 || x >= SIDE || y >= SIDE) return undefined
  return Math.floor(y / PATCH) * GRID + Math.floor(x / PATCH)
}

export class LabelGrid {
  /** Colour index + 1 of the object that covers the patch's centre, 0 for none. */
  readonly color = new Uint8Array(GRID * GRID)
  /** Shape index + 1, likewise. */
  readonly shape = new Uint8Array(GRID * GRID)
  /** Index in CHARSET + 1 of the character whose box holds the patch's centre. */
  readonly text = new Uint8Array(GRID * GRID)
  /** A data mark (1..8) or a tick of an axis (9..16), each with its height in the patch in pixels. */
  readonly mark = new Uint8Array(GRID * GRID)

  /** At a data mark: the character of its category (of its tick's number on a line chart). */
  readonly category = new Uint8Array(GRID * GRID)
  /** At a data mark: 1 + its height in twentieths of the value axis. */
  readonly level = new Uint8Array(GRID * GRID)

  /** Records a character's box; patches it only touches are left out of the loss. */
  char(char: string, x0: number, y0: number, x1: number, y1: number): void {
    const label = CHARSET.indexOf(char) + 1
    this.each(x0 - 1, y0 - 1, x1 + 1, y1 + 1, (cell, cx, cy) => {
      const inside = cx >= x0 - 1 && cx < x1 + 1 && cy >= y0 - 1 && cy < y1 + 1
      if (inside) this.text[cell] = label
      else if (this.text[cell] === 0) this.text[cell] = IGNORE
    })
  }

  /** Records an object: `covers` tells whether a point belongs to it. */
  object(
    color: number,
    shape: number,
    box: readonly [number, number, number, number],
    covers: (x: number, y: number) => boolean,
  ): void {
    this.each(...box, (cell, cx, cy) => {
      if (!covers(cx, cy)) return
      this.color[cell] = color + 1
      this.shape[cell] = shape + 1
    })
  }

  /** Records an axis tick at (x, y). */
  tick(x: number, y: number): void {
    const cell = cellAt(x, y)
    if (cell !== undefined) this.mark[cell] = 9 + Math.floor(y % PATCH)
  }

  /** Records a data point at (x, y): its category character and its share of the value axis. */
  point(x: number, y: number, category: string, share: number): void {
    const cell = cellAt(x, y)
    if (cell === undefined) return
    this.mark[cell] = 1 + Math.floor(y % PATCH)
    this.category[cell] = CHARSET.indexOf(category) + 1
    this.level[cell] = 1 + Math.round(share * LEVELS)
  }

  /** All planes, one after the other: color, shape, text, mark, category, level. */
  planes(): Uint8Array {
    const all = [this.color, this.shape, this.text, this.mark, this.category, this.level]
    const out = new Uint8Array(all.length * GRID * GRID)
    for (const [i, plane] of all.entries()) out.set(plane, i * plane.length)
    return out
  }

  private each(
    x0: number,
    y0: number,
    x1: number,
    y1: number,
    visit: (cell: number, cx: number, cy: number) => void,
  ): void {
    const last = GRID - 1
    const clamp = (v: number): number => Math.max(0, Math.min(last, Math.floor(v / PATCH)))
    for (let row = clamp(y0); row <= clamp(y1); row++) {
      for (let col = clamp(x0); col <= clamp(x1); col++) {
        visit(row * GRID + col, col * PATCH + PATCH / 2, row * PATCH + PATCH / 2)
      }
    }
  }
}
