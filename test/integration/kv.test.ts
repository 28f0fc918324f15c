import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeGguf } from '../../bench/models/gguf-writer.js'
import { cachedModel } from '../../bench/models/make-gguf.js'
import { fillTensor, RandomBits } from '../../bench/models/random-weights.js'
import { MODEL_SHAPES, modelMetadata, tensorPlans } from '../../bench/models/shapes.js'
import type { Engine } from '../../lib/engine.js'
import { type NanoTask, nanoItem } from '../../lib/eval/nano/index.js'
import { type LoadOptions, load } from '../../lib/index.js'
import { reasonOf } from '../helpers/fake-engine.js'
import { ENDLESS, nanoRequest, requestFor, until, withNano } from '../helpers/real.js'

type Kv = NonNullable<LoadOptions['kv']>

const PAGE_TOKENS = 32
/** One compute thread: 256 requests beside other test files. */
const SMALL = { threads: 1 }

const PROMPTS = [
  'What are you?',
  'What can you do?',
  'What is 12 times 7?',
  'Hello.',
  'Who made you?',
]
const IMAGES: [NanoTask, number][] = [
  ['caption', 41],
  ['chart_value', 42],
  ['slope', 43],
  ['ocr', 44],
  ['tool_call', 45],
]
const requests = () => [
  ...PROMPTS.map((text) => ({
    inputs: [{ type: 'text' as const, text }],
    preferences: { temperature: 0, max_tokens: 48 },
  })),
  ...IMAGES.map(([task, seed]) => nanoRequest(task, seed)),
]

/** Answers to all requests one after the other, and then to all of them at once. */
async function answers(kv: Kv): Promise<{ alone: string[]; together: string[] }> {
  return withNano(
    async (engine) => {
      expect(engine.info().kv.memory).toBe(kv.memory)
      const alone: string[] = []
      for (const request of requests()) alone.push((await engine.run(request)).text)
      const all = await Promise.all(requests().map((request) => engine.run(request).result()))
      return { alone, together: all.map(({ text }) => text) }
    },
    { ...SMALL, kv },
  )
}

/** Pages that sequences hold; what only the prefix cache holds is not lost. */
const held = (engine: Engine): number => {
  const { pages_used, pages_cached } = engine.stats().kv
  return pages_used - pages_cached
}

describe('paged memory', () => {
  it('answers as stock memory does, alone and at once', async () => {
    const stock = await answers({ memory: 'stock' })
    expect(new Set(stock.alone).size).toBeGreaterThan(5)
    expect(stock.together).toEqual(stock.alone)
    const paged = await answers({ memory: 'paged', dtype: 'bf16' })
    expect(paged).toEqual(stock)
    expect(await answers({ memory: 'paged', dtype: 'bf16', prefix_cache: false })).toEqual(stock)
  })

  it('is what an engine has by default, with int8 pages of half the bytes', async () => {
    await withNano(async (engine) => {
      const { memory, dtype, kernels, reason, bytes_per_token } = engine.info().kv
      expect({ memory, dtype, reason }).toEqual({ memory: 'paged', dtype: 'int8', reason: '' })
      expect(kernels).not.toBe('')
      await withNano(
        async (stock) => {
          expect(bytes_per_token / stock.info().kv.bytes_per_token).toBeLessThanOrEqual(0.53)
        },
        { ...SMALL, kv: { memory: 'stock' } },
      )
    }, SMALL)
  })

  it('takes memory as tokens arrive', async () => {
    const engine = await load(await cachedModel('llama-tiny'), { ...SMALL, context_tokens: 32_768 })
    try {
      const before = engine.stats().kv
      expect(before.bytes_committed).toBe(0)
      const text = 'ab '.repeat(300)
      const { usage } = await engine.run({
        inputs: [{ type: 'text', text }],
        preferences: { max_tokens: 4 },
      })
      const { bytes_committed, bytes } = engine.stats().kv
      const tokens = usage.input_tokens + usage.output_tokens
      expect(bytes).toBeLessThanOrEqual(tokens * engine.info().kv.bytes_per_token)
      expect(bytes_committed).toBeLessThan(engine.info().kv.bytes_per_token * 4096)
      expect(bytes_committed).toBeGreaterThanOrEqual(bytes)
    } finally {
      await engine.dispose()
    }
  })
})

describe('prefix cache', () => {
  const item = nanoItem('caption', 51)

  it('continues from what it has seen; the encoder does not run again', async () => {
    await withNano(async (engine) => {
      const first = await engine.run(requestFor(item))
      expect(first.usage.cached_tokens).toBe(0)
      const media = engine.stats().media_cache
      const second = await engine.run(requestFor(item))
      expect(second.text).toBe(first.text)
      // Whole pages, and at least the last token of the prompt is computed.
      const { input_tokens, cached_tokens } = second.usage
      expect(cached_tokens % PAGE_TOKENS).toBe(0)
      expect(cached_tokens).toBe(Math.floor((input_tokens - 1) / PAGE_TOKENS) * PAGE_TOKENS)
      expect(engine.stats().media_cache.misses).toBe(media.misses)
      expect(engine.stats().prefix_cache.hit_tokens).toBe(cached_tokens)
    }, SMALL)
  })

  it('tells images apart and is off when asked', async () => {
    await withNano(async (engine) => {
      await engine.run(requestFor(item))
      const other = nanoItem('caption', 52)
      const result = await engine.run(requestFor({ ...other, question: item.question }))
      expect(result.usage.cached_tokens).toBeLessThan(64)
      expect(result.text.trim()).toBe(other.answer.trim())
    }, SMALL)
    await withNano(
      async (engine) => {
        await engine.run(requestFor(item))
        expect((await engine.run(requestFor(item))).usage.cached_tokens).toBe(0)
        expect(engine.stats().kv.pages_used).toBe(0)
      },
      { ...SMALL, kv: { prefix_cache: false } },
    )
  })

  it('serves the next turn of a conversation', async () => {
    await withNano(async (engine) => {
      const question = { role: 'user' as const, content: 'What can you do? '.repeat(12) }
      const preferences = { temperature: 0, max_tokens: 40 }
      const first = await engine.run({ messages: [question], preferences })
      const messages = [
        question,
        { role: 'assistant' as const, content: first.text },
        { role: 'user' as const, content: 'What are you?' },
      ]
      const { usage } = await engine.run({ messages, preferences })
      expect(usage.cached_tokens).toBeGreaterThanOrEqual(
        Math.floor(first.usage.input_tokens / PAGE_TOKENS) * PAGE_TOKENS,
      )
    }, SMALL)
  })
})

describe('a pool that is too small for all', () => {
  let engine: Engine
  const AT_ONCE = 256
  const ROOM_FOR = 32
  /** A prompt of a page and an answer that needs two more. */
  const PAGES_EACH = 3
  const MAX_WRONG = 6

  beforeAll(async () => {
    const dtype = 'bf16'
    const bytes = await withNano(async (nano) => nano.info().kv.bytes_per_token, {
      ...SMALL,
      kv: { dtype },
    })
    engine = await load(undefined, {
      ...SMALL,
      kv: {
        memory: 'paged',
        dtype,
        budget_bytes: ROOM_FOR * PAGES_EACH * PAGE_TOKENS * bytes,
      },
      batch: { max_requests: AT_ONCE },
    })
  })
  afterAll(() => engine.dispose())

  const long = (text: string) => ({
    inputs: [{ type: 'text' as const, text }],
    // Letters without an end: the answer outgrows what its prompt was admitted with.
    preferences: { ...ENDLESS.preferences, max_tokens: 44 },
  })

  /**
   * Prompts and their answers, of those whose answer does not hang by a hair: three memories agree,
   * so the rounding of another batch hardly ever changes it.
   */
  async function steadyAnswers(): Promise<[prompt: string, answer: string][]> {
    const prompts = Array.from(
      { length: 24 },
      (_, i) => `What is ${11 + i} times ${i + 3}? What can you do? What are you?`,
    )
    const under = (kv: Kv) =>
      withNano(
        (nano) => Promise.all(prompts.map(async (text) => (await nano.run(long(text))).text)),
        { ...SMALL, kv },
      )
    const f16 = await under({ memory: 'stock' })
    const int8 = await under({ dtype: 'int8' })
    const bf16 = await under({ dtype: 'bf16' })
    return prompts
      .map((text, i): [string, string] => [text, f16[i] as string])
      .filter(([, answer], i) => answer === int8[i] && answer === bf16[i])
  }

  it('finishes 256 requests with the right text, preempting some', async () => {
    const known = await steadyAnswers()
    expect(known.length).toBeGreaterThanOrEqual(6)
    const asked = Array.from({ length: AT_ONCE }, (_, i) => known[i % known.length] as string[])
    const results = await Promise.all(asked.map(([text = '']) => engine.run(long(text)).result()))
    const wrong = results.filter(({ text }, i) => text !== asked[i]?.[1]).length
    // Pages that came back wrong would cost every preempted request its text: see below.
    expect(wrong).toBeLessThan(MAX_WRONG)
    const { kv, requests: counts } = engine.stats()
    expect(kv.pages_total).toBe(ROOM_FOR * PAGES_EACH)
    expect(kv.preemptions).toBeGreaterThan(2 * MAX_WRONG)
    expect(counts).toMatchObject({ running: 0, waiting: 0, failed: 0, finished: AT_ONCE })
    expect(held(engine)).toBe(0)
  }, 120_000)

  it('loses no page when requests are cancelled at any moment', async () => {
    let random = 7
    for (let round = 0; round < 4; round++) {
      const running = Array.from({ length: 48 }, () => engine.run(ENDLESS))
      const ends = running.map(async (generation, index) => {
        random = (Math.imul(random, 1664525) + 1013904223) >>> 0
        await new Promise((done) => setTimeout(done, (random >>> 16) % (10 + 5 * index)))
        generation.cancel()
        return reasonOf(generation)
      })
      for (const reason of await Promise.all(ends)) {
        expect(reason).toMatchObject({ code: 'MM_CANCELLED' })
      }
      await until(() => engine.stats().requests.running === 0 && held(engine) === 0)
    }
    const { groups } = await engine.kvPages()
    expect(groups.map(({ states }) => /[us]/.test(states))).toEqual([false])
  })
})

/** A tiny model of another shape, random weights. */
async function writeModel(path: string, changes: object): Promise<void> {
  const shape = { ...MODEL_SHAPES['llama-tiny'], ...changes }
  const random = new RandomBits(1)
  await writeGguf(
    path,
    modelMetadata('tiny', shape, 'q4_0'),
    tensorPlans(shape, 'q4_0'),
    (tensor, chunk) => fillTensor(random, tensor, chunk),
  )
}

describe('kv options', () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'polymind-kv-'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  const invalid = { code: 'MM_INVALID_REQUEST' }

  it.each<[string, unknown, object]>([
    ['a budget below a megabyte', { budget_bytes: 4096 }, invalid],
    ['an unknown dtype', { dtype: 'int4' }, invalid],
    ['half a pair of dtypes', { dtype: { k: 'int8' } }, invalid],
    ['an unknown memory', { memory: 'swap' }, invalid],
    [
      'a dtype with stock memory',
      { memory: 'stock', dtype: 'int8' },
      { code: 'MM_ENGINE_UNAVAILABLE', message: expect.stringContaining("kv.memory is 'stock'") },
    ],
  ])('refuses %s', async (_, kv, expected) => {
    expect(await reasonOf(load(undefined, { kv } as LoadOptions))).toMatchObject(expected)
  })

  it('refuses a budget that does not hold a page', async () => {
    const model = join(folder, 'wide.gguf')
    // A page of bf16 takes 1.1 MiB.
    await writeModel(model, { layers: 9, width: 64, headSize: 256, kvHeads: 4 })
    const kv = { memory: 'paged' as const, dtype: 'bf16' as const }
    const reason = await reasonOf(load(model, { ...SMALL, kv: { ...kv, budget_bytes: 1 << 20 } }))
    expect(reason).toMatchObject({ code: 'MM_INVALID_REQUEST' })
    expect(String(reason)).toMatch(/budget_bytes/)
    await using engine = await load(model, { ...SMALL, kv: { ...kv, budget_bytes: 3 << 20 } })
    expect(engine.stats().kv.pages_total).toBe(2)
  })

  it('says why a model has stock memory, or refuses it when pages were asked for', async () => {
    const model = join(folder, 'minicpm.gguf')
    await writeModel(model, { architecture: 'minicpm' })
    await using engine = await load(model, SMALL)
    const { memory, kernels, reason } = engine.info().kv
    expect({ memory, kernels }).toEqual({ memory: 'stock', kernels: '' })
    expect(reason).toContain('architecture minicpm')
    expect(await engine.kvPages()).toEqual({ groups: [] })
    expect(await reasonOf(load(model, { ...SMALL, kv: { memory: 'paged' } }))).toMatchObject({
      code: 'MM_ENGINE_UNAVAILABLE',
      message: expect.stringContaining('architecture minicpm'),
    })
  })

  it('reads keys and values of different types', async () => {
    await withNano(
      async (engine) => {
        expect(engine.info().kv.dtype).toBe('int8/fp8')
        expect((await engine.run(requestFor(nanoItem('ocr', 61)))).text.trim()).toBe(
          nanoItem('ocr', 61).answer.trim(),
        )
      },
      { ...SMALL, kv: { dtype: { k: 'int8', v: 'fp8' } } },
    )
  })
})
