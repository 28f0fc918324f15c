/** A small anti-aliased software rasteriser: RGB, row-major, 8 bits a channel. */

export type Color = readonly [number, number, number]
export type Point = readonly [number, number]

/** Square side in pixels of every generated image. */
export const SIDE = 128

export class Raster {
  readonly data: Uint8Array

  constructor(
    background: Color,
    readonly width = SIDE,
    readonly height = SIDE,
  ) {
    this.data = new Uint8Array(width * height * 3)
    for (let i = 0; i < this.data.length; i += 3) {
      this.data[i] = background[0]
      this.data[i + 1] = background[1]
      this.data[i + 2] = background[2]
    }
  }

  /** Blends `color` over one pixel; `alpha` in [0, 1]. Outside the image: nothing. */
  blend(x: number, y: number, color: Color, alpha: number): void {
    if (alpha <= 0 || x < 0 || y < 0 || x >= this.width || y >= this.height) return
    const a = alpha > 1 ? 1 : alpha
    const i = (y * this.width + x) * 3
    const d = this.data
    d[i] = Math.round((d[i] as number) * (1 - a) + color[0] * a)
    d[i + 1] = Math.round((d[i + 1] as number) * (1 - a) + color[1] * a)
    d[i + 2] = Math.round((d[i + 2] as number) * (1 - a) + color[2] * a)
  }

  /** Fills where the signed distance `sdf` (pixels, negative inside) is below zero. */
  fill(box: readonly [number, number, number, number], color: Color, sdf: Sdf): void {
    const [x0, y0, x1, y1] = box
    for (let y = Math.floor(y0) - 1; y <= Math.ceil(y1) + 1; y++) {
      for (let x = Math.floor(x0) - 1; x <= Math.ceil(x1) + 1; x++) {
        this.blend(x, y, color, 0.5 - sdf(x + 0.5, y + 0.5))
      }
    }
  }

  /** A straight stroke of the given full width with round ends. */
  line(from: Point, to: Point, width: number, color: Color): void {
    const [ax, ay] = from
    const [bx, by] = to
    const r = width / 2
    const box = [
      Math.min(ax, bx) - r,
      Math.min(ay, by) - r,
      Math.max(ax, bx) + r,
      Math.max(ay, by) + r,
    ] as const
    this.fill(box, color, (x, y) => segmentDistance(x, y, ax, ay, bx, by) - r)
  }

  /** An axis-aligned filled rectangle; edges may lie between pixels. */
  rect(x0: number, y0: number, x1: number, y1: number, color: Color): void {
    this.fill([x0, y0, x1, y1], color, (x, y) => Math.max(x0 - x, x - x1, y0 - y, y - y1))
  }

  /** A filled disc. */
  disc(cx: number, cy: number, r: number, color: Color): void {
    this.fill([cx - r, cy - r, cx + r, cy + r], color, (x, y) => Math.hypot(x - cx, y - cy) - r)
  }

  /** A filled polygon (even-odd rule). */
  polygon(points: readonly Point[], color: Color): void {
    const xs = points.map((p) => p[0])
    const ys = points.map((p) => p[1])
    const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] as const
    this.fill(box, color, (x, y) => polygonDistance(x, y, points))
  }
}

type Sdf = (x: number, y: number) => number

/** Distance from (x, y) to the segment (ax, ay)–(bx, by). */
export function segmentDistance(
  x: number,
  y: number,
  ax: number,
  ay: number,
  bx: number,
  by: number,
): number {
  const dx = bx - ax
  const dy = by - ay
  const len = dx * dx + dy * dy
  const t = len === 0 ? 0 : Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / len))
  const px = ax + t * dx - x
  const py = ay + t * dy - y
  return Math.sqrt(px * px + py * py)
}

function polygonDistance(x: number, y: number, points: readonly Point[]): number {
  let distance = Number.POSITIVE_INFINITY
  let inside = false
  for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
    const [ax, ay] = points[j] as Point
    const [bx, by] = points[i] as Point
    distance = Math.min(distance, segmentDistance(x, y, ax, ay, bx, by))
    if (by > y !== ay > y && x < ((ax - bx) * (y - by)) / (ay - by) + bx) inside = !inside
  }
  return inside ? -distance : distance
}
