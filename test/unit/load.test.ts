import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { disposeSharedEngine, load, loadModule, run } from '../../lib/index.js'
import { platformFixes } from '../../lib/native/load.js'
import { nativeError, withFake } from '../helpers/fake-binding.js'
import { ANY_FILE, ask, reasonOf, withFakeEngine } from '../helpers/fake-engine.js'

describe('load', () => {
  it('hands complete options to native code', () =>
    withFake({}, async (binding) => {
      const progress: number[] = []
      const engine = await load(
        { model: ANY_FILE, mmproj: ANY_FILE },
        {
          threads: 3,
          context_tokens: 99,
          batch: { max_requests: 2 },
          kv: {
            dtype: { k: 'int8', v: 'fp8' },
            budget_bytes: 1 << 21,
            spill: { dir: '/spill', bytes: 5 },
          },
          on_progress: (f) => progress.push(f),
        },
      )
      expect(binding.named('loadEngine')[0]?.args[0]).toEqual({
        model: ANY_FILE,
        mmproj: ANY_FILE,
        threads: 3,
        context_tokens: 99,
        max_requests: 2,
        tokens_per_step: 512,
        kv: {
          memory: 'auto',
          k: 'int8',
          v: 'fp8',
          budget_bytes: 1 << 21,
          prefix_cache: true,
          spill_dir: '/spill',
          spill_bytes: 5,
        },
        media_cache_bytes: 64 * 1024 * 1024,
      })
      expect(progress).toEqual([0.5])
      await engine.dispose()
    }))

  it('survives an on_progress that throws', () =>
    withFake({}, async () => {
      const engine = await load(ANY_FILE, {
        on_progress: () => {
          throw new Error('mine')
        },
      })
      await engine.dispose()
    }))

  it.each([
    ['/no/such.gguf', /source\.model.*no such file/],
    [{ model: ANY_FILE, mmproj: '/no/such.gguf' }, /source\.mmproj/],
    [`${ANY_FILE}/inside`, /no such file/],
    ['/dev/null', /regular file/],
  ])('says that %j was not found', async (source, message) => {
    const error = await reasonOf(load(source))
    expect(error).toMatchObject({
      code: 'MM_MODEL_NOT_FOUND',
      message: expect.stringMatching(message),
      stack: expect.stringContaining('load.test.ts'),
    })
  })

  it('refuses folders and drafts with the reason', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'polymind-'))
    expect(await reasonOf(load(folder))).toMatchObject({
      code: 'MM_ENGINE_UNAVAILABLE',
      message: expect.stringContaining('mm assemble'),
    })
    await rm(folder, { recursive: true })
    expect(await reasonOf(load({ model: ANY_FILE, draft: ANY_FILE }))).toMatchObject({
      code: 'MM_ENGINE_UNAVAILABLE',
    })
    expect(await reasonOf(loadModule('x'))).toMatchObject({ code: 'MM_ENGINE_UNAVAILABLE' })
  })

  it.each([[''], [5], [null], [{ model: '' }], [{ mmproj: 'x' }], [{ model: 'a', modell: 'b' }]])(
    'refuses the source %j',
    async (source) => {
      expect(await reasonOf(load(source as never))).toMatchObject({ code: 'MM_INVALID_REQUEST' })
    },
  )

  it('turns native errors into MMErrors with the stack of the caller', () =>
    withFake(
      {
        load: () => {
          throw nativeError('MM_MODEL_INVALID', 'expected GGUF at offset 0', { offset: 0 })
        },
      },
      async () => {
        const error = await reasonOf(load(ANY_FILE))
        expect(error).toMatchObject({
          code: 'MM_MODEL_INVALID',
          details: { offset: 0 },
          stack: expect.stringContaining('load.test.ts'),
        })
      },
    ))

  it('rejects with the reason of its signal, before and during loading', () =>
    withFake({ load: () => new Promise((resolve) => setTimeout(resolve, 20)) }, async (binding) => {
      const before = AbortSignal.abort(new Error('before'))
      expect(await reasonOf(load(ANY_FILE, { signal: before }))).toBe(before.reason)
      expect(binding.calls).toEqual([])
      const controller = new AbortController()
      const loading = load(ANY_FILE, { signal: controller.signal })
      setTimeout(() => controller.abort(new Error('during')), 5)
      expect(await reasonOf(loading)).toBe(controller.signal.reason)
    }))
})

describe('run without an engine', () => {
  it('loads the default once, shares it, and forgets a failed load', () => {
    let attempts = 0
    return withFake(
      {
        load: () => {
          if (++attempts === 1) throw nativeError('MM_OUT_OF_MEMORY', 'no memory')
        },
        onSubmit: (r) => {
          r.text('ok')
          r.finish()
        },
      },
      async (binding) => {
        expect(await reasonOf(run(ask()))).toMatchObject({ code: 'MM_OUT_OF_MEMORY' })
        const results = await Promise.all([run(ask()), run(ask())])
        expect(results.map((result) => result.text)).toEqual(['ok', 'ok'])
        expect(binding.named('loadEngine')).toHaveLength(2)
        await disposeSharedEngine()
        expect(binding.named('dispose')).toHaveLength(1)
        await disposeSharedEngine()
      },
    )
  })

  it('refuses an engine that is none and unknown options', async () => {
    expect(await reasonOf(run(ask(), { engine: {} as never }))).toMatchObject({
      code: 'MM_INVALID_REQUEST',
      details: { where: 'options.engine' },
    })
    expect(await reasonOf(run(ask(), { sinal: 1 } as never))).toMatchObject({
      message: expect.stringContaining('did you mean "signal"'),
    })
  })
})

describe('engine functions', () => {
  it('tokenize, detokenize, embed', () =>
    withFakeEngine({}, async (engine) => {
      expect(await engine.tokenize('ab')).toEqual([97, 98])
      expect(await engine.detokenize([97, 98])).toBe('ab')
      expect(await engine.embed('abc')).toEqual(Float32Array.of(3))
      expect(await engine.embed(['a', 'ab'])).toEqual([Float32Array.of(1), Float32Array.of(2)])
      expect(engine.info().model.name).toBe('fake-model')
      expect(engine.stats().requests.running).toBe(0)
    }))

  it('check their arguments', () =>
    withFakeEngine({}, async (engine, binding) => {
      for (const bad of [
        engine.tokenize(5 as never),
        engine.detokenize([-1]),
        engine.detokenize([1.5]),
        engine.detokenize('x' as never),
        engine.embed(''),
        engine.embed([1] as never),
        engine.score(''),
        engine.score('x', { signal: 5 } as never),
      ]) {
        expect(await reasonOf(bad)).toMatchObject({ code: 'MM_INVALID_REQUEST' })
      }
      expect(binding.calls.map((call) => call.name)).toEqual(['loadEngine'])
      expect(await reasonOf(engine.rerank('a', []))).toMatchObject({
        code: 'MM_ENGINE_UNAVAILABLE',
      })
    }))

  it('score cancels with its signal', () =>
    withFakeEngine(
      {
        score: (_, token) =>
          new Promise((_resolve, reject) => {
            token.onCancel(() => reject(nativeError('MM_CANCELLED', 'cancelled')))
          }),
      },
      async (engine) => {
        const controller = new AbortController()
        const scoring = engine.score('x', { signal: controller.signal })
        setTimeout(() => controller.abort(), 5)
        expect(await reasonOf(scoring)).toBe(controller.signal.reason)
      },
    ))
})

describe('platformFixes', () => {
  it('fit the reasons', () => {
    expect(platformFixes('GLIBC_2.38 not found').join()).toContain('build from source')
    expect(platformFixes('invalid ELF header').join()).toContain('another platform')
    expect(platformFixes('').join()).toContain('npm run build')
  })
})
