import { createWriteStream } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { once } from 'node:events'

/** Tensor types the generator writes: number in the file, elements and bytes of a block. */
export const TENSOR_TYPES = {
  f32: { id: 0, block: 1, bytes: 4 },
  f16: { id: 1, block: 1, bytes: 2 },
  q4_0: { id: 2, block: 32, bytes: 18 },
  q8_0: { id: 8, block: 32, bytes: 34 },
  q6_k: { id: 14, block: 256, bytes: 210 },
} as const

export type TensorType = keyof typeof TENSOR_TYPES

export interface TensorPlan {
  name: string
  /** GGUF order: shape[0] is a row's length. */
  shape: number[]
  type: TensorType
}

/** A metadata value with its GGUF type. */
export type MetadataValue =
  | { type: 'u32' | 'i32' | 'f32'; value: number }
  | { type: 'bool'; value: boolean }
  | { type: 'string'; value: string }
  | { type: 'i32[]' | 'f32[]'; value: readonly number[] }
  | { type: 'string[]'; value: readonly string[] }

const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8 } as const
const ARRAY = 9
const ALIGNMENT = 32

const align = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT

/** Bytes of a tensor. @throws RangeError when the type's block does not divide a row. */
export function tensorBytes({ name, shape, type }: TensorPlan): number {
  const { block, bytes } = TENSOR_TYPES[type]
  const row = shape[0] ?? 1
  if (row % block !== 0) {
    throw new RangeError(`tensor ${name}: expected rows that ${block} divides, got ${row}`)
  }
  return (shape.reduce((product, dim) => product * dim, 1) / block) * bytes
}

/** Grows as needed; numbers are little-endian. */
class ByteBuffer {
  #bytes = Buffer.alloc(1 << 20)
  #length = 0

  #reserve(count: number): number {
    const at = this.#length
    this.#length += count
    if (this.#length > this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(this.#length, this.#bytes.length * 2))
      this.#bytes.copy(larger, 0, 0, at)
      this.#bytes = larger
    }
    return at
  }

  u32(value: number): void {
    const at = this.#reserve(4)
    this.#bytes.writeUInt32LE(value, at)
  }
  i32(value: number): void {
    const at = this.#reserve(4)
    this.#bytes.writeInt32LE(value, at)
  }
  f32(value: number): void {
    const at = this.#reserve(4)
    this.#bytes.writeFloatLE(value, at)
  }
  u64(value: number): void {
    const at = this.#reserve(8)
    this.#bytes.writeBigUInt64LE(BigInt(value), at)
  }
  byte(value: number): void {
    const at = this.#reserve(1)
    this.#bytes.writeUInt8(value, at)
  }
  string(text: string): void {
    const bytes = Buffer.byteLength(text)
    this.u64(bytes)
    const at = this.#reserve(bytes)
    this.#bytes.write(text, at)
  }
  padTo(multiple: number): void {
    const at = this.#reserve(Math.ceil(this.#length / multiple) * multiple - this.#length)
    this.#bytes.fill(0, at, this.#length)
  }
  take(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }
}

function writeValue(out: ByteBuffer, metadata: MetadataValue): void {
  switch (metadata.type) {
    case 'u32':
    case 'i32':
    case 'f32':
      out.u32(VALUE_TYPES[metadata.type])
      out[metadata.type](metadata.value)
      return
    case 'bool':
      out.u32(VALUE_TYPES.bool)
      out.byte(metadata.value ? 1 : 0)
      return
    case 'string':
      out.u32(VALUE_TYPES.string)
      out.string(metadata.value)
      return
    case 'i32[]':
    case 'f32[]': {
      const element = metadata.type === 'i32[]' ? 'i32' : 'f32'
      writeArrayHead(out, VALUE_TYPES[element], metadata.value.length)
      for (const number of metadata.value) out[element](number)
      return
    }
    case 'string[]':
      writeArrayHead(out, VALUE_TYPES.string, metadata.value.length)
      for (const text of metadata.value) out.string(text)
  }
}

function writeArrayHead(out: ByteBuffer, elementType: number, length: number): void {
  out.u32(ARRAY)
  out.u32(elementType)
  out.u64(length)
}

/** The bytes before the tensor data, padded to its start. */
export function encodeHeader(
  metadata: readonly (readonly [string, MetadataValue])[],
  tensors: readonly TensorPlan[],
): Buffer {
  const out = new ByteBuffer()
  for (const char of 'GGUF') out.byte(char.charCodeAt(0))
  out.u32(3)
  out.u64(tensors.length)
  out.u64(metadata.length)
  for (const [key, value] of metadata) {
    out.string(key)
    writeValue(out, value)
  }
  let offset = 0
  for (const tensor of tensors) {
    out.string(tensor.name)
    out.u32(tensor.shape.length)
    for (const dim of tensor.shape) out.u64(dim)
    out.u32(TENSOR_TYPES[tensor.type].id)
    out.u64(offset)
    offset += align(tensorBytes(tensor))
  }
  out.padTo(ALIGNMENT)
  return out.take()
}

/**
 * Writes a whole file, one chunk of a tensor at a time, under a temporary name until it is complete.
 *
 * @param fill fills `chunk` with the bytes of `tensor` from byte `start` on; `start` and the chunk's
 * length are multiples of the type's block.
 */
export async function writeGguf(
  path: string,
  metadata: readonly (readonly [string, MetadataValue])[],
  tensors: readonly TensorPlan[],
  fill: (tensor: TensorPlan, chunk: Buffer, start: number) => void,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const partial = `${path}.${process.pid}.partial`
  const stream = createWriteStream(partial)
  const put = async (bytes: Buffer): Promise<void> => {
    if (!stream.write(bytes)) await once(stream, 'drain')
  }
  try {
    await put(encodeHeader(metadata, tensors))
    for (const tensor of tensors) await putTensor(tensor, put, fill)
    stream.end()
    await once(stream, 'finish')
    await rename(partial, path)
  } catch (error) {
    stream.destroy()
    await rm(partial, { force: true })
    throw error
  }
}

async function putTensor(
  tensor: TensorPlan,
  put: (bytes: Buffer) => Promise<void>,
  fill: (tensor: TensorPlan, chunk: Buffer, start: number) => void,
): Promise<void> {
  const total = tensorBytes(tensor)
  const { bytes } = TENSOR_TYPES[tensor.type]
  const step = Math.floor((4 << 20) / bytes) * bytes
  for (let start = 0; start < total; start += step) {
    // A new buffer each time: the stream keeps the last one until it is on disk.
    const chunk = Buffer.allocUnsafe(Math.min(step, total - start))
    fill(tensor, chunk, start)
    await put(chunk)
  }
  await put(Buffer.alloc(align(total) - total))
}
