import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine } from '../../lib/engine.js'
import { load } from '../../lib/index.js'
import { ask, reasonOf } from '../helpers/fake-engine.js'
import { ENDLESS, nanoRequest, TEST_THREADS, until, withNano } from '../helpers/real.js'

let engine: Engine
beforeAll(async () => {
  engine = await load(undefined, { threads: TEST_THREADS })
})
afterAll(() => engine.dispose())

const idle = () => {
  const { running, waiting } = engine.stats().requests
  return running === 0 && waiting === 0
}

describe('cancelling', () => {
  it('rejects with the reason, the partial result and a free slot', async () => {
    const controller = new AbortController()
    const generation = engine.run(ENDLESS, { signal: controller.signal })
    const reason = new Error('enough')
    let seen = ''
    const reader = (async () => {
      for await (const text of generation) {
        seen += text
        if (seen.length > 10) controller.abort(reason)
      }
    })()
    expect(await reasonOf(reader)).toBe(reason)
    expect(await reasonOf(generation)).toBe(reason)
    expect(reason).toMatchObject({
      partial: { finish_reason: 'cancelled', text: expect.stringContaining(seen) },
    })
    await until(idle)
  })

  it('works before the start, at once and twice', async () => {
    const signal = AbortSignal.abort(new Error('before'))
    expect(await reasonOf(engine.run(ENDLESS, { signal }))).toBe(signal.reason)
    const generation = engine.run(ENDLESS)
    generation.cancel()
    generation.cancel()
    expect(await reasonOf(generation)).toMatchObject({ code: 'MM_CANCELLED' })
  })

  it('works while waiting for a slot', async () => {
    const busy = Array.from({ length: 8 }, () => engine.run(ENDLESS))
    const waiting = engine.run(ENDLESS)
    await until(() => engine.stats().requests.waiting >= 1)
    waiting.cancel()
    expect(await reasonOf(waiting)).toMatchObject({ code: 'MM_CANCELLED' })
    for (const generation of busy) generation.cancel()
    await Promise.all(busy.map(reasonOf))
    await until(idle)
  })

  it('works during prefill of a long prompt', async () => {
    const words = 'word '.repeat(Math.floor(engine.info().context_tokens / 8))
    const generation = engine.run(ask(words))
    await until(() => engine.stats().requests.running + engine.stats().requests.waiting > 0)
    generation.cancel()
    expect(await reasonOf(generation)).toMatchObject({ code: 'MM_CANCELLED' })
    await until(idle)
  })

  it('happens when a for await is left early', async () => {
    const generation = engine.run(ENDLESS)
    for await (const _ of generation) break
    expect(await reasonOf(generation)).toMatchObject({ code: 'MM_CANCELLED' })
    await until(idle)
  })

  it('works during a tool that never returns', async () => {
    let signal: AbortSignal | undefined
    const generation = engine.run(nanoRequest('tool_call', 3), {
      tools: {
        calculator: (_: unknown, context) => {
          signal = context.signal
          return new Promise(() => {})
        },
        slope: (_: unknown, context) => {
          signal = context.signal
          return new Promise(() => {})
        },
      },
    })
    await until(() => signal !== undefined)
    generation.cancel()
    expect(await reasonOf(generation)).toMatchObject({ code: 'MM_CANCELLED' })
    expect(signal?.aborted).toBe(true)
    await until(idle)
  })

  it('of one leaves the other seven as they were', async () => {
    const requests = Array.from({ length: 7 }, (_, i) =>
      nanoRequest(i % 2 ? 'caption' : 'ocr', 300 + i),
    )
    const alone = await Promise.all(requests.map((request) => engine.run(request).result()))
    const victim = engine.run(ENDLESS)
    const others = requests.map((request) => engine.run(request).result())
    const stop = (async () => {
      for await (const _ of victim) break
    })()
    const results = await Promise.all(others)
    await stop
    expect(results.map((result) => result.text)).toEqual(alone.map((result) => result.text))
  })
})

describe('dispose', () => {
  it('ends running and waiting requests with MM_DISPOSED and may be called again', async () => {
    const own = await load(undefined, { threads: TEST_THREADS, batch: { max_requests: 2 } })
    const generations = Array.from({ length: 5 }, () => own.run(ENDLESS))
    await generations[0]?.[Symbol.asyncIterator]().next()
    const reasons = Promise.all(generations.map(reasonOf))
    await Promise.all([own.dispose(), own.dispose()])
    await own.dispose()
    for (const reason of await reasons) expect(reason).toMatchObject({ code: 'MM_DISPOSED' })
    expect(await reasonOf(own.run(ask()))).toMatchObject({ code: 'MM_DISPOSED' })
    expect(await reasonOf(own.tokenize('x'))).toMatchObject({ code: 'MM_DISPOSED' })
    expect(await reasonOf(own.score('x'))).toMatchObject({ code: 'MM_DISPOSED' })
    expect(own.stats().requests.running).toBe(0)
  })

  it('during score and embed ends them', async () => {
    const own = await load(undefined, { threads: TEST_THREADS })
    const text = 'word '.repeat(200)
    const pending = [own.score(text), own.embed(text)]
    const settled = Promise.allSettled(pending)
    await own.dispose()
    for (const outcome of await settled) {
      if (outcome.status === 'rejected')
        expect(outcome.reason).toMatchObject({ code: 'MM_DISPOSED' })
    }
  })

  it('is what await using does', async () => {
    let leaked: Engine
    {
      await using own = await load(undefined, { threads: 1 })
      leaked = own
      expect((await own.run(nanoRequest('ocr', 1))).finish_reason).toBe('stop')
    }
    expect(await reasonOf(leaked.tokenize('x'))).toMatchObject({ code: 'MM_DISPOSED' })
  })

  it('while loading is what its signal does', async () => {
    const controller = new AbortController()
    const loading = load(undefined, { signal: controller.signal })
    controller.abort(new Error('no'))
    expect(await reasonOf(loading)).toBe(controller.signal.reason)
    await withNano(async (next) => expect(next.info().model).toBeDefined())
  })
})
