import { describe, expect, it } from 'vitest'
import { EventRouter } from '../../lib/engine.js'
import type { RunResult } from '../../lib/index.js'
import type { NativeEvent } from '../../lib/native/binding.js'
import { type FakeRequest, nativeError, USAGE } from '../helpers/fake-binding.js'
import { ask, reasonOf, withFakeEngine } from '../helpers/fake-engine.js'

/** Says its prompt's turn and never ends by itself. */
const endless = { onSubmit: (r: FakeRequest) => r.text(`text ${r.request.id}`) }

async function abortTwo(reason: unknown) {
  return withFakeEngine(endless, async (engine) => {
    const controller = new AbortController()
    const runs = [1, 2].map(() => engine.run(ask(), { signal: controller.signal }))
    await Promise.all(runs.map((run) => run[Symbol.asyncIterator]().next()))
    controller.abort(reason)
    const reasons = await Promise.all(runs.map(reasonOf))
    return { reasons, partials: runs.map((run) => run.partial) }
  })
}

const texts = [{ text: 'text 1', finish_reason: 'cancelled' }, { text: 'text 2' }]

describe('an abort reason shared by two generations', () => {
  it('keeps the first partial result; both are on the generations', async () => {
    const reason = new Error('both') as Error & { partial?: RunResult }
    const { reasons, partials } = await abortTwo(reason)
    expect(reasons).toEqual([reason, reason])
    expect(reason.partial).toMatchObject({ text: 'text 1' })
    expect(partials).toMatchObject(texts)
  })

  it.each([
    ['frozen', Object.freeze(new Error('frozen'))],
    [
      'with a fixed partial',
      Object.defineProperty(new Error('x'), 'partial', { value: undefined }),
    ],
    [
      'a proxy that refuses everything',
      new Proxy(
        {},
        {
          get: (_, key) => {
            // A promise that rejects with it is awaited by the test, which may look at these.
            if (key === 'partial') throw new Error('no')
            return undefined
          },
        },
      ),
    ],
  ])('may be %s', async (_, reason) => {
    const { reasons, partials } = await abortTwo(reason)
    expect(reasons.every((received) => received === reason)).toBe(true)
    expect(partials).toMatchObject(texts)
  })
})

describe('generation.partial', () => {
  it('grows while the generation runs and is the result at the end', () =>
    withFakeEngine(
      {
        onSubmit: (r) => {
          r.text('a')
          setTimeout(() => {
            r.text('b')
            r.finish()
          }, 20)
        },
      },
      async (engine) => {
        const generation = engine.run(ask())
        expect(generation.partial).toMatchObject({ text: '', tool_calls: [] })
        await generation[Symbol.asyncIterator]().next()
        expect(generation.partial.text).toBe('a')
        expect(generation.partial).not.toHaveProperty('finish_reason')
        const result = await generation
        expect(generation.partial).toBe(result)
        expect(result).toMatchObject({ text: 'ab', finish_reason: 'stop', usage: USAGE })
      },
    ))
})

describe('signals of other libraries', () => {
  it('may lack removeEventListener', () =>
    withFakeEngine({ onSubmit: (r) => r.finish() }, async (engine) => {
      const signal = { aborted: false, addEventListener() {} } as unknown as AbortSignal
      expect(await engine.run(ask(), { signal })).toMatchObject({ finish_reason: 'stop' })
    }))
})

describe('native calls that throw', () => {
  const call = { tool: 'f', args: {} }
  const calling = { onSubmit: (r: FakeRequest) => r.toolCall('c1', call), onCancel: () => {} }

  it('toolResult(): the request fails and its slot is freed', () =>
    withFakeEngine(calling, async (engine, binding) => {
      const native = binding.engines[0]
      if (native === undefined) throw new Error('no engine')
      native.toolResult = () => {
        throw nativeError('MM_INTERNAL', 'broken')
      }
      const error = await reasonOf(engine.run(ask(), { tools: { f: () => 1 } }))
      expect(error).toMatchObject({ code: 'MM_INTERNAL', message: 'broken' })
      expect(binding.named('cancel')).toMatchObject([{ args: [1] }])
    }))

  it('finish(): likewise', () =>
    withFakeEngine(calling, async (engine, binding) => {
      const native = binding.engines[0]
      if (native === undefined) throw new Error('no engine')
      native.finish = () => {
        throw nativeError('MM_INTERNAL', 'broken')
      }
      const error = await reasonOf(engine.run({ ...ask(), tools_allowed: ['f'] }))
      expect(error).toMatchObject({ code: 'MM_INTERNAL', message: 'broken' })
      expect(binding.named('cancel')).toMatchObject([{ args: [1] }])
    }))

  it('cancel(): the generation ends all the same', () =>
    withFakeEngine(endless, async (engine, binding) => {
      const native = binding.engines[0]
      if (native === undefined) throw new Error('no engine')
      native.cancel = () => {
        throw nativeError('MM_INTERNAL', 'broken')
      }
      const generation = engine.run(ask())
      await generation[Symbol.asyncIterator]().next()
      generation.cancel('enough')
      expect(await reasonOf(generation)).toBe('enough')
    }))
})

describe('events() that nobody reads', () => {
  it('does not make a tool call wait', () =>
    withFakeEngine({ onSubmit: (r) => r.toolCall('c1', { tool: 'f' }) }, async (engine) => {
      const generation = engine.run({ ...ask(), tools_allowed: ['f'] })
      generation.events()
      expect(await generation).toMatchObject({ finish_reason: 'tool_calls' })
    }))
})

describe('EventRouter', () => {
  it('delivers the rest of a batch when one sink throws', async () => {
    const router = new EventRouter()
    const seen: NativeEvent[] = []
    const warned = new Promise<Error>((resolve) => process.once('warning', resolve))
    const bad = router.add(() => {
      throw new Error('boom')
    })
    const good = router.add((event) => seen.push(event))
    router.onEvents([
      { id: bad, type: 'text', text: 'x' },
      { id: good, type: 'text', text: 'y' },
    ])
    expect(seen).toEqual([{ id: good, type: 'text', text: 'y' }])
    expect((await warned).message).toMatch(/request 1.*boom/)
  })
})
