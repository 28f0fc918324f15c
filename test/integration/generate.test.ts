import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine } from '../../lib/engine.js'
import { builtinTools, load, run } from '../../lib/index.js'
import { all, ask, reasonOf } from '../helpers/fake-engine.js'
import { ENDLESS, nanoRequest, TEST_THREADS, withNano } from '../helpers/real.js'

let engine: Engine
beforeAll(async () => {
  engine = await load(undefined, { threads: TEST_THREADS })
})
afterAll(() => engine.dispose())

describe('one answer', () => {
  it('streams the same text that it returns, from start to finish', async () => {
    const generation = engine.run(nanoRequest('caption', 1))
    const [chunks, events, result] = await Promise.all([
      all(generation),
      all(generation.events()),
      generation,
    ])
    expect(chunks.join('')).toBe(result.text)
    expect(result.text.length).toBeGreaterThan(0)
    expect(events[0]?.type).toBe('start')
    expect(events.at(-1)).toMatchObject({ type: 'finish', reason: result.finish_reason })
    expect(result.usage.media_tokens.image).toBeGreaterThan(0)
    expect(result.usage.input_tokens).toBeGreaterThan(result.usage.media_tokens.image)
    expect(result.usage.output_tokens).toBeGreaterThan(0)
    const { timings } = result
    for (const value of Object.values(timings)) expect(Number.isFinite(value)).toBe(true)
    expect(timings.ttft_ms).toBeGreaterThan(0)
  })

  it('is the same every time when greedy, and with the default engine', async () => {
    const request = nanoRequest('chart_value', 2)
    const first = await engine.run(request)
    expect((await engine.run(request)).text).toBe(first.text)
    expect((await run(request)).text).toBe(first.text)
  })

  it('serves the encoder from its cache the second time', async () => {
    const before = engine.stats().media_cache
    await engine.run(nanoRequest('caption', 77))
    await engine.run(nanoRequest('caption', 77))
    const after = engine.stats().media_cache
    expect(after.misses - before.misses).toBe(1)
    expect(after.hits - before.hits).toBe(1)
  })

  it('calls a tool and goes on in the same answer', async () => {
    const generation = engine.run(nanoRequest('tool_call', 3), { tools: { ...builtinTools } })
    const events = await all(generation.events())
    const types = events.map((event) => event.type)
    expect(types).toContain('tool-call')
    expect(types.indexOf('tool-result')).toBeGreaterThan(types.indexOf('tool-call'))
    const result = await generation
    expect(result.tool_calls.length).toBeGreaterThan(0)
    expect(result.tool_calls[0]).toHaveProperty('ok')
    expect(result.text).not.toContain('<tool_')
  })
})

describe('sampling', () => {
  const sampled = (seed: number) => ({
    ...ask('What are you?'),
    preferences: { temperature: 2, top_k: 0, top_p: 1, min_p: 0, seed, max_tokens: 40 },
  })

  it('repeats with a seed and varies without', async () => {
    const a = await engine.run(sampled(7))
    const b = await engine.run(sampled(7))
    const others = await Promise.all([8, 9, 10].map((seed) => engine.run(sampled(seed)).result()))
    expect(b.text).toBe(a.text)
    expect(a.seed).toBe(7)
    expect(others.some((other) => other.text !== a.text)).toBe(true)
  })

  it('repeats with a seed while others run', async () => {
    const alone = await engine.run(sampled(21))
    const crowd = [22, 21, 23, 24].map((seed) => engine.run(sampled(seed)).result())
    expect((await Promise.all(crowd))[1]?.text).toBe(alone.text)
  })
})

describe('where an answer ends', () => {
  it('at max_tokens', async () => {
    const result = await engine.run({
      ...ENDLESS,
      preferences: { ...ENDLESS.preferences, max_tokens: 5 },
    })
    expect(result).toMatchObject({ finish_reason: 'length', usage: { output_tokens: 5 } })
  })

  it('at its budget', async () => {
    const preferences = { ...ENDLESS.preferences, budget_ms: 60 }
    const result = await engine.run({ ...ENDLESS, preferences })
    // A fast machine may fill the context within the budget; both are ends of the right kind.
    expect(['budget', 'length']).toContain(result.finish_reason)
  })

  it('at a stop string, which is not part of it', async () => {
    const free = await engine.run(nanoRequest('caption', 4))
    const stop = free.text.slice(3, 7)
    expect(stop.length).toBe(4)
    const request = nanoRequest('caption', 4)
    const stopped = await engine.run({ ...request, preferences: { ...request.preferences, stop } })
    expect(stopped.finish_reason).toBe('stop')
    expect(stopped.text).toBe(free.text.slice(0, free.text.indexOf(stop)))
  })

  it('at the end of the context', () =>
    withNano(
      async (small) => {
        const result = await small.run(ENDLESS)
        expect(result.finish_reason).toBe('length')
        expect(result.usage.input_tokens + result.usage.output_tokens).toBeLessThanOrEqual(64)
      },
      { context_tokens: 64 },
    ))

  it('never begins when the prompt is longer than the context', async () => {
    const limit = engine.info().context_tokens
    const error = await reasonOf(engine.run(ask('word '.repeat(limit))))
    expect(error).toMatchObject({ code: 'MM_CONTEXT_OVERFLOW' })
    expect((error as Error).message).toMatch(/\d+/)
  })
})

describe('constraints', () => {
  it('follow a JSON Schema', async () => {
    const json_schema = {
      type: 'object',
      properties: { colour: { enum: ['red', 'blue'] }, n: { type: 'integer' } },
      required: ['colour', 'n'],
      additionalProperties: false,
    }
    const result = await engine.run({ ...ask('hi'), preferences: { json_schema, max_tokens: 200 } })
    if (result.finish_reason === 'stop') {
      expect(JSON.parse(result.text)).toMatchObject({ colour: expect.stringMatching(/red|blue/) })
    } else {
      expect(result.text).toMatch(/^\s*\{/)
    }
  })

  it('follow a grammar', async () => {
    const result = await engine.run({
      ...ask('hi'),
      preferences: { grammar: 'root ::= "yes" | "no"' },
    })
    expect(['yes', 'no']).toContain(result.text)
  })

  it.each([
    [{ grammar: 'root ::= (' }],
    [{ grammar: 'nonsense' }],
    [{ grammar: 'root ::= root' }],
    [{ json_schema: { $ref: '#/nowhere' } }],
    [{ json_schema: { type: 'no-such-type' } }],
  ])('that are broken are refused: %j', async (preferences) => {
    const error = await reasonOf(
      engine.run({ ...ask('hi'), preferences: { ...preferences, max_tokens: 5 } }),
    )
    expect(error).toMatchObject({ code: 'MM_INVALID_REQUEST' })
  })
})

describe('several at once', () => {
  it('eight answer as each does alone', async () => {
    const tasks = ['caption', 'chart_value', 'slope', 'ocr'] as const
    const requests = Array.from({ length: 8 }, (_, i) =>
      nanoRequest(tasks[i % 4] ?? 'ocr', 100 + i),
    )
    const tools = { ...builtinTools }
    const alone: string[] = []
    for (const request of requests) alone.push((await engine.run(request, { tools })).text)
    const together = await Promise.all(
      requests.map((request) => engine.run(request, { tools }).result()),
    )
    expect(together.map((result) => result.text)).toEqual(alone)
  })

  it('more than fit wait for their turn', async () => {
    const runs = Array.from({ length: 20 }, (_, i) => engine.run(nanoRequest('ocr', i)).result())
    const results = await Promise.all(runs)
    expect(
      results.every(
        (result) => result.finish_reason === 'stop' || result.finish_reason === 'length',
      ),
    ).toBe(true)
    expect(engine.stats().requests).toMatchObject({ running: 0, waiting: 0 })
  })

  it('several engines do not disturb each other', () =>
    withNano((a) =>
      withNano(async (b) => {
        const request = nanoRequest('slope', 5)
        const tools = { ...builtinTools }
        const [x, y, z] = await Promise.all([
          a.run(request, { tools }).result(),
          b.run(request, { tools }).result(),
          engine.run(request, { tools }).result(),
        ])
        expect(y?.text).toBe(x?.text)
        expect(z?.text).toBe(x?.text)
        await a.dispose()
        expect((await b.run(request, { tools })).text).toBe(x?.text)
      }),
    ))
})

describe('the other functions of an engine', () => {
  it.each(['What are you?', 'äöü € 漢字 🙂', 'a\0b', '', ' leading', '<bos><tool_call>'])(
    'tokenize and detokenize %j',
    async (text) => {
      const ids = await engine.tokenize(text)
      expect(await engine.detokenize(ids)).toBe(text)
    },
  )

  it('refuses token ids outside the vocabulary', async () => {
    expect(await reasonOf(engine.detokenize([0x7fff_ffff]))).toMatchObject({
      code: 'MM_INVALID_REQUEST',
    })
  })

  it('scores a text: log-probabilities of each token, NaN for the first', async () => {
    const { tokens, logprobs } = await engine.score('The slope is 5.')
    expect(logprobs.length).toBe(tokens.length)
    expect(logprobs[0]).toBeNaN()
    for (const value of logprobs.subarray(1)) expect(value).toBeLessThanOrEqual(0)
  })

  it('embeds texts as unit vectors', async () => {
    const [a, b, c] = await engine.embed(['a red circle', 'a red circle', 'a bar chart'])
    const dot = (x?: Float32Array, y?: Float32Array) =>
      (x ?? new Float32Array()).reduce((sum, value, i) => sum + value * (y?.[i] ?? 0), 0)
    expect(a?.length).toBe(engine.info().model.embedding_width)
    expect(dot(a, a)).toBeCloseTo(1, 4)
    expect(dot(a, b)).toBeCloseTo(1, 4)
    expect(dot(a, c)).toBeLessThan(0.9999)
  })

  it('says what it is', () => {
    expect(engine.info()).toMatchObject({ modalities: expect.arrayContaining(['text', 'image']) })
    expect(engine.stats().steps).toBeGreaterThan(0)
    const number = expect.any(Number)
    expect(engine.info().kv).toEqual({
      memory: expect.stringMatching(/^(paged|stock)$/),
      dtype: expect.any(String),
      kernels: expect.any(String),
      bytes_per_token: number,
      bytes: number,
      reason: expect.any(String),
    })
    expect(engine.stats().kv).toEqual({
      page_tokens: number,
      pages_total: number,
      pages_used: number,
      pages_shared: number,
      pages_cached: number,
      bytes: number,
      bytes_committed: number,
      waste_fraction: number,
      evictions: number,
      spilled_pages: number,
      preemptions: number,
    })
  })
})

/** Runs `work` right after load() has handed over to native code, in the same turn of the loop. */
function onceLoading(work: () => void): AbortSignal {
  return {
    aborted: false,
    addEventListener: () => queueMicrotask(work),
    removeEventListener: () => {},
  } as unknown as AbortSignal
}

describe('loading', () => {
  it('reports progress in order, and its end exactly once', async () => {
    for (const held of [0, 300]) {
      const seen: number[] = []
      // Held up so long, this thread finds the reports and the end of the work waiting together.
      const signal = onceLoading(() => {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, held)
      })
      const engine = await load(undefined, { on_progress: (f) => seen.push(f), signal })
      // Before any turn of the event loop: whoever awaited load() has seen the end.
      expect(seen.at(-1)).toBe(1)
      await new Promise((resolve) => setTimeout(resolve, 20))
      expect(seen.filter((fraction) => fraction >= 1)).toEqual([1])
      expect(seen).toEqual([...seen].sort((a, b) => a - b))
      await engine.dispose()
    }
  })

  it('uses one thread for a small model, or as many as it is told', async () => {
    const small = await load()
    expect(small.info().threads).toBe(1)
    await small.dispose()
    await withNano(async (told) => expect(told.info().threads).toBe(2), { threads: 2 })
  })
})

describe('constraints that cannot be compiled', () => {
  it.each([
    [{ grammar: 'root ::= (' }, /line 1, column 11/],
    [{ grammar: 'root ::= nothing' }, /definition of the rule 'nothing'/],
    [{ grammar: 'root ::= "a"{3,2}' }, /upper bound/],
    [{ json_schema: { type: 'string', minLength: 3, maxLength: 2 } }, /minLength/],
  ])('%j is an invalid request', async (preferences, message) => {
    const inputs = [{ type: 'text' as const, text: 'x' }]
    expect(await reasonOf(engine.run({ inputs, preferences }))).toMatchObject({
      code: 'MM_INVALID_REQUEST',
      message: expect.stringMatching(message),
    })
  })
})

describe('preferences.json_schema with a pattern', () => {
  // Hot enough that every token the grammar allows is likely.
  it.each([
    '^.{5}$',
    '^[^a]{5}$',
    '^a"b$',
    '^(?:a|\\n|\\\\){6}$',
    '^["a]{4}$',
    '^[ -~]{8}$',
    '^ab\\.?c$',
    '^[\\t\\n\\r"\\\\]{5}$',
    '^[é]{2}é+$',
  ])('%s: answers are JSON and match', async (pattern) => {
    const preferences = { temperature: 5, top_p: 1, top_k: 0, min_p: 0, max_tokens: 200 }
    const json_schema = { type: 'string', pattern }
    const inputs = [{ type: 'text' as const, text: 'What are you?' }]
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, seed) =>
        engine.run({ inputs, preferences: { ...preferences, seed, json_schema } }),
      ),
    )
    // U+FFFD: bytes that are no character (overlong forms), which llama.cpp's grammars take for one.
    const whole = answers.filter(
      ({ finish_reason, text }) => finish_reason === 'stop' && !text.includes('\ufffd'),
    )
    expect(whole.length).toBeGreaterThan(0)
    for (const { text } of whole) expect(JSON.parse(text)).toMatch(asUnicode(pattern))
  })
})

/** The same with `.` and classes taking characters, not halves of surrogate pairs. */
function asUnicode(pattern: string): RegExp {
  return new RegExp(pattern.replaceAll('\\"', '"'), 'u')
}
