import type { TensorPlan } from './gguf-writer.js'

/** Standard deviation of the weights: what transformers are initialised with. */
const DEVIATION = 0.02

/** Half-precision bits of a positive number in the normal range. */
export function toHalf(value: number): number {
  const exponent = Math.floor(Math.log2(value))
  const fraction = Math.round((value / 2 ** exponent - 1) * 1024)
  return ((exponent + 15) << 10) + fraction
}

/** xorshift128: fast enough to fill gigabytes, and the same on every machine. */
export class RandomBits {
  readonly #state = new Uint32Array(4)

  constructor(seed: number) {
    // splitmix32 spreads a small seed over the whole state.
    let x = seed >>> 0
    for (let i = 0; i < 4; i++) {
      x = (x + 0x9e3779b9) >>> 0
      let z = x
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
      this.#state[i] = (z ^ (z >>> 16)) >>> 0 || 1
    }
  }

  fill(words: Uint32Array): void {
    let [a, b, c, d] = this.#state as unknown as [number, number, number, number]
    for (let i = 0; i < words.length; i++) {
      const t = a ^ (a << 11)
      a = b
      b = c
      c = d
      d = d ^ (d >>> 19) ^ t ^ (t >>> 8)
      words[i] = d
    }
    this.#state.set([a, b, c, d])
  }
}

function fillBytes(random: RandomBits, chunk: Buffer): void {
  const words = new Uint32Array(Math.ceil(chunk.length / 4))
  random.fill(words)
  Buffer.from(words.buffer).copy(chunk)
}

/** Uniform integers of `spread` standard deviation, scaled to the wanted deviation. */
const scaleFor = (spread: number): number => toHalf(DEVIATION / spread)

const Q4_SCALE = scaleFor(4.61)
const Q8_SCALE = scaleFor(73.9)
const Q6_SUBSCALE = 32
const Q6_SCALE = scaleFor(18.47 * Q6_SUBSCALE)

/** Fills a chunk of a tensor's data: norms are ones, biases zeros, the rest random. */
export function fillTensor(random: RandomBits, tensor: TensorPlan, chunk: Buffer): void {
  if (tensor.type === 'f32') {
    const value = tensor.name.endsWith('.bias') ? 0 : 1
    for (let at = 0; at < chunk.length; at += 4) chunk.writeFloatLE(value, at)
    return
  }
  fillBytes(random, chunk)
  if (tensor.type === 'f16') {
    // Keep sign and fraction, set the exponent: magnitudes from 2^-6 to 2^-5.
    for (let at = 1; at < chunk.length; at += 2) {
      chunk[at] = ((chunk[at] as number) & 0x83) | (9 << 2)
    }
  } else if (tensor.type === 'q4_0') {
    for (let at = 0; at < chunk.length; at += 18) chunk.writeUInt16LE(Q4_SCALE, at)
  } else if (tensor.type === 'q8_0') {
    for (let at = 0; at < chunk.length; at += 34) chunk.writeUInt16LE(Q8_SCALE, at)
  } else {
    // low bits [128], high bits [64], subscales [16], scale
    for (let at = 0; at < chunk.length; at += 210) {
      chunk.fill(Q6_SUBSCALE, at + 192, at + 208)
      chunk.writeUInt16LE(Q6_SCALE, at + 208)
    }
  }
}
