import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isMMError, type RunEvent, type RunResult } from '../../lib/index.js'
import { TIMINGS, USAGE } from '../helpers/fake-binding.js'
import { all, ask, reasonOf, withFakeEngine } from '../helpers/fake-engine.js'

const hello = {
  onSubmit: (r: import('../helpers/fake-binding.js').FakeRequest) => {
    r.emit({ type: 'start', input_tokens: 7 })
    r.text('Hel', 'lo')
    r.finish()
  },
}
/** Starts and never ends by itself. */
const endless = {
  onSubmit: (r: import('../helpers/fake-binding.js').FakeRequest) => {
    r.emit({ type: 'start', input_tokens: 7 })
    r.text('a')
  },
}

// vitest reports unhandled rejections itself; this makes the guard visible and independent of that.
const unhandled: unknown[] = []
const onUnhandled = (reason: unknown) => unhandled.push(reason)
beforeAll(() => {
  process.on('unhandledRejection', onUnhandled)
})
afterAll(async () => {
  await new Promise((resolve) => setTimeout(resolve, 20))
  process.removeListener('unhandledRejection', onUnhandled)
  expect(unhandled).toEqual([])
})

describe('consuming a generation', () => {
  it('streams text and gives the whole result', () =>
    withFakeEngine(hello, async (engine) => {
      const generation = engine.run(ask())
      expect(await all(generation)).toEqual(['Hel', 'lo'])
      const result = await generation
      expect(result).toMatchObject({
        text: 'Hello',
        tool_calls: [],
        outputs: [{ type: 'text', text: 'Hello' }],
        finish_reason: 'stop',
        usage: USAGE,
        model: 'fake-model',
      })
      expect(result.timings.ttft_ms).toBeGreaterThanOrEqual(TIMINGS.ttft_ms)
      expect(result).not.toHaveProperty('reasoning')
    }))

  it('reports events in order, start with the resolved preferences', () =>
    withFakeEngine(hello, async (engine) => {
      const request = { ...ask(), preferences: { seed: 42, max_tokens: 9, stop: 'END' } }
      const generation = engine.run(request)
      const events = await all(generation.events())
      expect(events.map((event) => event.type)).toEqual([
        'start',
        'text-delta',
        'text-delta',
        'finish',
      ])
      expect(events[0]).toMatchObject({
        id: generation.id,
        seed: 42,
        model: 'fake-model',
        preferences: { seed: 42, max_tokens: 9, temperature: 0, top_k: 40, stop: ['END'] },
      })
    }))

  it('lets every consumer see everything from the start', () =>
    withFakeEngine(hello, async (engine) => {
      const generation = engine.run(ask())
      const [text, events, result] = await Promise.all([
        all(generation),
        all(generation.events()),
        generation.result(),
      ])
      const late = await all(generation)
      expect(text.join('')).toBe(result.text)
      expect(late).toEqual(text)
      expect(events).toHaveLength(4)
    }))

  it('keeps reasoning apart from text', () =>
    withFakeEngine(
      {
        onSubmit: (r) => {
          r.emit({ type: 'reasoning', text: 'hm' })
          r.text('42')
          r.finish()
        },
      },
      async (engine) => {
        const generation = engine.run(ask())
        expect(await all(generation)).toEqual(['42'])
        expect((await generation).reasoning).toBe('hm')
      },
    ))

  it('answers next() calls made without waiting in order', () =>
    withFakeEngine(hello, async (engine) => {
      const iterator = engine.run(ask())[Symbol.asyncIterator]()
      const three = await Promise.all([iterator.next(), iterator.next(), iterator.next()])
      expect(three.map((step) => step.value)).toEqual(['Hel', 'lo', undefined])
      expect(three[2]?.done).toBe(true)
    }))
})

describe('cancelling', () => {
  it('rejects with the reason of the signal and the partial result', () =>
    withFakeEngine(endless, async (engine, binding) => {
      const controller = new AbortController()
      const generation = engine.run(ask(), { signal: controller.signal })
      const reason = new Error('enough')
      for await (const event of generation.events()) {
        if (event.type === 'text-delta') break
      }
      controller.abort(reason)
      const error = await reasonOf(generation)
      expect(binding.named('cancel')).toHaveLength(1)
      expect(isMMError(error) ? error.code : error).toBe('MM_CANCELLED')
    }))

  it('hands the very reason to text, events and result', () =>
    withFakeEngine(endless, async (engine) => {
      const controller = new AbortController()
      const generation = engine.run(ask(), { signal: controller.signal })
      const reason = new Error('enough')
      const seen: RunEvent[] = []
      const reader = (async () => {
        for await (const event of generation.events()) {
          seen.push(event)
          if (event.type === 'text-delta') controller.abort(reason)
        }
      })()
      expect(await reasonOf(reader)).toBe(reason)
      expect(await reasonOf(generation)).toBe(reason)
      expect(await reasonOf(all(generation))).toBe(reason)
      const partial = (reason as Error & { partial: RunResult }).partial
      expect(partial).toMatchObject({ text: 'a', finish_reason: 'cancelled', usage: USAGE })
      expect(seen.at(-1)).toMatchObject({ type: 'finish', reason: 'cancelled' })
    }))

  it('rejects with MM_CANCELLED for cancel() and keeps the stack of the caller', () =>
    withFakeEngine(endless, async (engine) => {
      const generation = engine.run(ask())
      await generation.events().next()
      generation.cancel()
      generation.cancel()
      const error = await reasonOf(generation)
      expect(error).toMatchObject({ code: 'MM_CANCELLED', partial: { finish_reason: 'cancelled' } })
      expect((error as Error).stack).toContain('generation.test.ts')
    }))

  it('passes the reason given to cancel() on', () =>
    withFakeEngine(endless, async (engine) => {
      const generation = engine.run(ask())
      generation.cancel('because')
      expect(await reasonOf(generation)).toBe('because')
    }))

  it('never reaches native code when the signal was aborted before', () =>
    withFakeEngine({}, async (engine, binding) => {
      const signal = AbortSignal.abort(new Error('too late'))
      const generation = engine.run(ask(), { signal })
      expect(await reasonOf(generation)).toBe(signal.reason)
      expect(binding.named('submit')).toEqual([])
    }))

  it('never reaches native code when cancelled at once', () =>
    withFakeEngine({}, async (engine, binding) => {
      const generation = engine.run(ask())
      generation.cancel()
      expect(await reasonOf(generation)).toMatchObject({ code: 'MM_CANCELLED' })
      await new Promise((resolve) => setImmediate(resolve))
      expect(binding.named('submit')).toEqual([])
    }))

  it('cancels when a for await is left early, and waits until the slot is free', () =>
    withFakeEngine(endless, async (engine, binding) => {
      const generation = engine.run(ask())
      for await (const text of generation) {
        expect(text).toBe('a')
        break
      }
      expect(binding.named('cancel')).toHaveLength(1)
      expect(await reasonOf(generation)).toMatchObject({ code: 'MM_CANCELLED' })
    }))

  it('cancels when the body of a for await throws', () =>
    withFakeEngine(endless, async (engine, binding) => {
      const failed = (async () => {
        for await (const _ of engine.run(ask())) throw new Error('mine')
      })()
      expect(await reasonOf(failed)).toMatchObject({ message: 'mine' })
      expect(binding.named('cancel')).toHaveLength(1)
    }))

  it('removes its listener from the signal', () =>
    withFakeEngine(hello, async (engine) => {
      const controller = new AbortController()
      const counts = { added: 0, removed: 0 }
      const { signal } = controller
      const add = signal.addEventListener.bind(signal)
      const remove = signal.removeEventListener.bind(signal)
      signal.addEventListener = (...args: Parameters<typeof add>) => {
        counts.added++
        add(...args)
      }
      signal.removeEventListener = (...args: Parameters<typeof remove>) => {
        counts.removed++
        remove(...args)
      }
      await engine.run(ask(), { signal })
      expect(counts).toEqual({ added: 1, removed: 1 })
      controller.abort()
    }))

  it('is harmless after the end', () =>
    withFakeEngine(hello, async (engine, binding) => {
      const generation = engine.run(ask())
      const result = await generation
      generation.cancel()
      expect(await generation).toBe(result)
      expect(binding.named('cancel')).toEqual([])
    }))
})

describe('failing', () => {
  const broken = {
    onSubmit: (r: import('../helpers/fake-binding.js').FakeRequest) => {
      r.text('so ')
      r.fail('MM_CONTEXT_OVERFLOW', 'expected at most 8 tokens', '{"limit":8}')
    },
  }

  it('gives each consumer the error once, after the events before it', () =>
    withFakeEngine(broken, async (engine) => {
      const generation = engine.run(ask())
      const iterator = generation[Symbol.asyncIterator]()
      expect(await iterator.next()).toEqual({ done: false, value: 'so ' })
      const error = await reasonOf(iterator.next())
      expect(error).toMatchObject({
        code: 'MM_CONTEXT_OVERFLOW',
        details: { limit: 8 },
        partial: { text: 'so ', finish_reason: 'error' },
      })
      expect(await iterator.next()).toEqual({ done: true, value: undefined })
      expect(await reasonOf(generation)).toBe(error)
    }))

  it('does not disturb anybody when nobody consumes it', () =>
    withFakeEngine(broken, async (engine) => {
      engine.run(ask())
      engine.run({ inputs: [] } as never)
      await new Promise((resolve) => setTimeout(resolve, 30))
      expect(unhandled).toEqual([])
    }))

  it('carries the stack of run()', () =>
    withFakeEngine(broken, async (engine) => {
      const error = (await reasonOf(engine.run(ask()))) as Error
      expect(error.stack).toMatch(/^MMError \[MM_CONTEXT_OVERFLOW\]: expected at most 8 tokens\n/)
      expect(error.stack).toContain('generation.test.ts')
    }))

  it('maps a code it does not know to MM_INTERNAL', () =>
    withFakeEngine({ onSubmit: (r) => r.fail('EWEIRD', 'boo', 'not json') }, async (engine) => {
      expect(await reasonOf(engine.run(ask()))).toMatchObject({
        code: 'MM_INTERNAL',
        details: { native_code: 'EWEIRD', native_details: 'not json' },
      })
    }))

  it('ends requests with MM_DISPOSED when the engine goes away, whatever native code does', () =>
    withFakeEngine(endless, async (engine, binding) => {
      const generation = engine.run(ask())
      await generation.events().next()
      const native = binding.engines[0]
      if (native !== undefined) native.dispose = async () => {}
      const waiting = reasonOf(generation)
      await new Promise((resolve) => setTimeout(resolve, 5))
      await Promise.all([engine.dispose(), engine.dispose()])
      expect(await waiting).toMatchObject({ code: 'MM_DISPOSED' })
    }))

  it('refuses requests after dispose', () =>
    withFakeEngine({}, async (engine, binding) => {
      await engine.dispose()
      expect(await reasonOf(engine.run(ask()))).toMatchObject({ code: 'MM_DISPOSED' })
      expect(await reasonOf(engine.tokenize('x'))).toMatchObject({ code: 'MM_DISPOSED' })
      expect(await reasonOf(engine.score('x'))).toMatchObject({ code: 'MM_DISPOSED' })
      expect(binding.named('submit')).toEqual([])
    }))
})

describe('what native code receives', () => {
  it('is complete', () =>
    withFakeEngine(hello, async (engine, binding) => {
      await engine.run({
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
        ],
        preferences: {
          temperature: 0.5,
          json_schema: { type: 'object' },
          budget_ms: 1000,
          seed: 1,
        },
      })
      const request = binding.named('submit')[0]?.args[0]
      expect(request).toMatchObject({
        id: 1,
        tools: '',
        media: [],
        cot: false,
        temperature: 0.5,
        top_p: 0.95,
        top_k: 40,
        min_p: 0.05,
        seed: 1,
        grammar: '',
        json_schema: '{"type":"object"}',
        stop: [],
        max_tokens: 0,
      })
      const { messages, budget_ms } = request as { messages: string; budget_ms: number }
      expect(JSON.parse(messages)).toEqual([
        { role: 'system', content: [{ type: 'text', text: 'Be brief.' }] },
        { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
      ])
      expect(budget_ms).toBeGreaterThan(900)
      expect(budget_ms).toBeLessThanOrEqual(1000)
    }))

  it('has ids that are unique among live requests', () =>
    withFakeEngine(endless, async (engine, binding) => {
      const generations = Array.from({ length: 5 }, () => engine.run(ask()))
      await Promise.all(generations.map((generation) => generation.events().next()))
      await new Promise((resolve) => setTimeout(resolve, 10))
      const ids = binding.named('submit').map((call) => (call.args[0] as { id: number }).id)
      expect(new Set(ids).size).toBe(5)
    }))
})
