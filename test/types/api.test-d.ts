import { expectTypeOf, test } from 'vitest'
import { z } from 'zod'
import {
  defineTool,
  type Engine,
  type Generation,
  isMMError,
  load,
  type MMErrorCode,
  type RunEvent,
  type RunResult,
  run,
} from '../../lib/index.js'

test('run', () => {
  const generation = run({ inputs: [{ type: 'text', text: 'hi' }] })
  expectTypeOf(generation).toEqualTypeOf<Generation>()
  expectTypeOf<Awaited<Generation>>().toEqualTypeOf<RunResult>()
  expectTypeOf(generation[Symbol.asyncIterator]().next()).resolves.toEqualTypeOf<
    IteratorResult<string>
  >()
  expectTypeOf(generation.events).returns.toExtend<AsyncIterable<RunEvent>>()
  expectTypeOf(generation.result).returns.resolves.toEqualTypeOf<RunResult>()
  expectTypeOf(generation.id).toEqualTypeOf<string>()
})

test('requests', () => {
  expectTypeOf(run).parameter(0).toExtend<{ tools_allowed?: string[] | undefined }>()
  // @ts-expect-error an unknown kind of part
  run({ inputs: [{ type: 'smell', path: 'x' }] })
  // @ts-expect-error a misspelt preference
  run({ inputs: [{ type: 'text', text: 'x' }], preferences: { temprature: 1 } })
  // @ts-expect-error not a role
  run({ messages: [{ role: 'bot', content: 'x' }] })
})

test('events narrow by type', () => {
  const event = {} as RunEvent
  if (event.type === 'tool-call')
    expectTypeOf(event.call.args).toEqualTypeOf<Record<string, unknown>>()
  if (event.type === 'text-delta') expectTypeOf(event.text).toEqualTypeOf<string>()
  if (event.type === 'finish') expectTypeOf(event.usage.input_tokens).toEqualTypeOf<number>()
})

test('engine', async () => {
  const engine = await load()
  expectTypeOf(engine).toEqualTypeOf<Engine>()
  expectTypeOf(engine).toExtend<AsyncDisposable>()
  expectTypeOf(engine.embed('a')).resolves.toEqualTypeOf<Float32Array>()
  expectTypeOf(engine.embed(['a'])).resolves.toEqualTypeOf<Float32Array[]>()
  expectTypeOf(engine.tokenize('a')).resolves.toEqualTypeOf<number[]>()
})

test('tools know their arguments', () => {
  defineTool({
    parameters: z.object({ n: z.number() }),
    execute: (args, context) => {
      expectTypeOf(args).toEqualTypeOf<{ n: number }>()
      expectTypeOf(context.signal).toEqualTypeOf<AbortSignal>()
    },
  })
})

test('errors', () => {
  const error: unknown = undefined
  if (isMMError(error)) expectTypeOf(error.code).toEqualTypeOf<MMErrorCode>()
})
