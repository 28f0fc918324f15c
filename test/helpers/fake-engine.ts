import { fileURLToPath } from 'node:url'
import type { Engine } from '../../lib/engine.js'
import { load } from '../../lib/load.js'
import { type FakeBinding, type FakeScript, withFake } from './fake-binding.js'

/** A file that exists: load() checks that before it asks native code. */
export const ANY_FILE = fileURLToPath(import.meta.url)

/** Runs `work` with an engine whose native half is scripted. */
export function withFakeEngine<T>(
  script: FakeScript,
  work: (engine: Engine, binding: FakeBinding) => Promise<T>,
): Promise<T> {
  return withFake(script, async (binding) => {
    const engine = await load(ANY_FILE)
    try {
      return await work(engine, binding)
    } finally {
      await engine.dispose()
    }
  })
}

/** A request with nothing but a text. */
export const ask = (text = 'hello') => ({ inputs: [{ type: 'text' as const, text }] })

/** Everything an async iterable yields. */
export async function all<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of source) items.push(item)
  return items
}

/** The reason `promise` rejects with; fails when it does not. */
export async function reasonOf(promise: PromiseLike<unknown>): Promise<unknown> {
  let value: unknown
  try {
    value = await promise
  } catch (error) {
    return error
  }
  throw new Error(`expected a rejection, received ${JSON.stringify(value)}`)
}
