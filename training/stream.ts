/**
 * Writes training records to stdout for the recipe.
 *
 *   tsx training/stream.ts --seed 1 --start 0 --step 1 --horizon 400000 [--limit N]
 *
 * Each record: uint32 length, then `length` bytes: 49152 bytes RGB, 1536 bytes dense labels
 * (6 planes of 16 x 16), and the rest as JSON in UTF-8. `horizon` is the record at which the
 * curriculum is complete (progress 1). The stream ends when stdout closes.
 */
import { writeSync } from 'node:fs'
import { trainingRecord } from '../lib/eval/nano/record.js'

function option(name: string, fallback?: number): number {
  const at = process.argv.indexOf(`--${name}`)
  const text = at < 0 ? undefined : process.argv[at + 1]
  const value = text === undefined ? fallback : Number(text)
  if (value === undefined || !Number.isFinite(value)) throw new Error(`--${name} needs a number`)
  return value
}

function encode(seed: number, index: number, horizon: number): Buffer {
  const { pixels, dense, ...rest } = trainingRecord(seed, index, index / horizon)
  const json = Buffer.from(JSON.stringify(rest))
  const head = Buffer.alloc(4)
  head.writeUInt32LE(pixels.length + dense.length + json.length)
  return Buffer.concat([head, pixels, dense, json])
}

/** Blocking write of a whole buffer; false when the reader has gone. */
function writeAll(buffer: Buffer): boolean {
  let at = 0
  while (at < buffer.length) {
    try {
      at += writeSync(1, buffer, at)
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      if (code === 'EPIPE') return false
      if (code !== 'EAGAIN') throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2)
    }
  }
  return true
}

const seed = option('seed')
const horizon = option('horizon')
const step = option('step', 1)
const start = option('start', 0)
const limit = option('limit', Number.MAX_SAFE_INTEGER)
for (let n = 0; n < limit; n++) {
  if (!writeAll(encode(seed, start + n * step, horizon))) break
}
