import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { load } from '../../lib/index.js'
import { nativeBinding } from '../../lib/native/load.js'
import { encodeHeader, tensorBytes } from './gguf-writer.js'
import { makeModel } from './make-gguf.js'
import { RandomBits, toHalf } from './random-weights.js'
import { MODEL_SHAPES, type ModelName, modelMetadata, tensorPlans } from './shapes.js'
import { byteLetters, syntheticWords } from './vocabulary.js'

describe('random-weight models', () => {
  let folder: string

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'polymind-make-gguf-'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('the same seed gives the same bytes, another seed others', async () => {
    const paths = ['a', 'b', 'c'].map((name) => join(folder, `${name}.gguf`)) as [
      string,
      string,
      string,
    ]
    await makeModel('llama-tiny', paths[0], { seed: 5 })
    await makeModel('llama-tiny', paths[1], { seed: 5 })
    await makeModel('llama-tiny', paths[2], { seed: 6 })
    const [first, same, other] = paths.map((path) => readFileSync(path))
    expect(same?.equals(first as Buffer)).toBe(true)
    expect(other?.equals(first as Buffer)).toBe(false)
  })

  test.each(['q4_0', 'q8_0', 'f16'] as const)('%s loads and generates', async (weights) => {
    const path = join(folder, `${weights}.gguf`)
    await makeModel('llama-tiny', path, { weights })
    const info = JSON.parse(await nativeBinding().inspectGguf(path))
    expect(info.architecture).toBe('llama')
    expect(info.file_bytes).toBe(statSync(path).size)
    await using engine = await load(path, { threads: 1, context_tokens: 64 })
    const prompt = [{ type: 'text' as const, text: 'ab cd' }]
    const preferences = { max_tokens: 4, temperature: 0 }
    const result = await engine.run({ inputs: prompt, preferences })
    expect(result.usage.output_tokens).toBe(4)
    expect(result.finish_reason).toBe('length')
  })

  test.each(Object.keys(MODEL_SHAPES) as ModelName[])(
    'the vocabulary of %s has the published size and no token twice',
    (name) => {
      const shape = MODEL_SHAPES[name]
      const metadata = new Map(modelMetadata(name, shape, 'q4_0'))
      const tokens = metadata.get('tokenizer.ggml.tokens')?.value as string[]
      expect(tokens).toHaveLength(shape.vocabulary)
      expect(new Set(tokens).size).toBe(tokens.length)
      for (const tensor of tensorPlans(shape, 'q4_0'))
        expect(tensorBytes(tensor)).toBeGreaterThan(0)
    },
  )

  test.each([
    ['qwen2-0.5b', 0.494e9],
    ['llama-1b', 1.236e9],
    ['llama-3b', 3.213e9],
    ['gemma3-1b', 1.0e9],
  ] as const)('%s has the published number of parameters', (name, published) => {
    const counts = tensorPlans(MODEL_SHAPES[name], 'q4_0').map(({ shape }) =>
      shape.reduce((product, dim) => product * dim, 1),
    )
    const parameters = counts.reduce((sum, count) => sum + count, 0)
    expect(Math.abs(parameters / published - 1)).toBeLessThan(0.005)
  })

  test('a row that the block does not divide is refused', () => {
    const tensor = { name: 't', shape: [48], type: 'q4_0' } as const
    expect(() => encodeHeader([], [{ ...tensor, shape: [48] }])).toThrow(/expected rows that 32/)
  })

  test('merges build on pieces that exist', () => {
    const pieces = new Set([...byteLetters()])
    const words = syntheticWords('\u0120')
    for (let i = 0; i < 5000; i++) {
      const { left, right } = words.next().value as { left: string; right: string }
      expect(pieces.has(left) && pieces.has(right)).toBe(true)
      pieces.add(left + right)
    }
  })

  test('half precision and random bits', () => {
    expect(toHalf(1)).toBe(0x3c00)
    expect(toHalf(0.5)).toBe(0x3800)
    expect(toHalf(1.5)).toBe(0x3e00)
    const words = new Uint32Array(100_000)
    new RandomBits(1).fill(words)
    const mean = words.reduce((sum, word) => sum + word / 2 ** 32, 0) / words.length
    // The mean of n uniform numbers has a deviation of 1 / sqrt(12 n): five of them.
    expect(Math.abs(mean - 0.5)).toBeLessThan(5 / Math.sqrt(12 * words.length))
  })
})
