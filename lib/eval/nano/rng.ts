/** Deterministic pseudo-random numbers: the same seed gives the same bytes on every machine. */

/** 32-bit FNV-1a hash of a string. */
export function hashString(text: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) {
    h ^= text.charCodeAt(i)
    h = Math.imul(h, 0x01000193)
  }
  return h >>> 0
}

/** Small fast generator (sfc32), seeded from any string. */
export class Rng {
  private a: number
  private b: number
  private c: number
  private d = 1

  constructor(key: string) {
    this.a = hashString(`a:${key}`)
    this.b = hashString(`b:${key}`)
    this.c = hashString(`c:${key}`)
    for (let i = 0; i < 12; i++) this.next()
  }

  /** Next unsigned 32-bit integer. */
  next(): number {
    const t = (((this.a + this.b) | 0) + this.d) | 0
    this.d = (this.d + 1) | 0
    this.a = this.b ^ (this.b >>> 9)
    this.b = (this.c + (this.c << 3)) | 0
    this.c = (this.c << 21) | (this.c >>> 11)
    this.c = (this.c + t) | 0
    return t >>> 0
  }

  /** Uniform float in [lo, hi). */
  float(lo = 0, hi = 1): number {
    return lo + (this.next() / 4294967296) * (hi - lo)
  }

  /** Uniform integer in [lo, hi], both ends included. */
  int(lo: number, hi: number): number {
    return lo + Math.floor(this.float() * (hi - lo + 1))
  }

  /** True with probability `p`. */
  chance(p: number): boolean {
    return this.float() < p
  }

  /** One element of a non-empty list. */
  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new RangeError('pick from an empty list')
    return list[this.int(0, list.length - 1)] as T
  }

  /** `count` different elements, in random order. */
  sample<T>(list: readonly T[], count: number): T[] {
    const rest = [...list]
    const out: T[] = []
    while (out.length < count && rest.length > 0) {
      out.push(...rest.splice(this.int(0, rest.length - 1), 1))
    }
    return out
  }
}
