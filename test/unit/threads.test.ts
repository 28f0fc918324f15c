import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { load } from '../../lib/index.js'
import {
  defaultThreads,
  MAX_DEFAULT_THREADS,
  parseCpuList,
  SMALL_MODEL_BYTES,
} from '../../lib/threads.js'
import { withFake } from '../helpers/fake-binding.js'

describe('defaultThreads', () => {
  it('gives small models one thread and others the cores, up to a limit', () => {
    expect(defaultThreads(SMALL_MODEL_BYTES - 1, 6)).toBe(1)
    expect(defaultThreads(SMALL_MODEL_BYTES, 6)).toBe(6)
    expect(defaultThreads(SMALL_MODEL_BYTES, 96)).toBe(MAX_DEFAULT_THREADS)
    expect(defaultThreads(SMALL_MODEL_BYTES, 0)).toBe(1)
  })

  it('never takes more than this process may use', () => {
    const threads = defaultThreads(Number.MAX_SAFE_INTEGER)
    expect(threads).toBeGreaterThanOrEqual(1)
    expect(threads).toBeLessThanOrEqual(availableParallelism())
  })
})

describe('parseCpuList', () => {
  it.each([
    ['0\n', [0]],
    ['0-3,8,10-11', [0, 1, 2, 3, 8, 10, 11]],
    ['', []],
    ['nonsense', []],
    ['5-2', []],
  ])('reads %j', (list, cpus) => {
    expect(parseCpuList(list)).toEqual(cpus)
  })
})

describe('load without threads', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'polymind-threads-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  const optionsFor = async (bytes: number, options = {}) => {
    const file = join(folder, `${bytes}.gguf`)
    writeFileSync(file, '')
    truncateSync(file, bytes) // sparse: takes no space
    return withFake({}, async (binding) => {
      await (await load(file, options)).dispose()
      return binding.named('loadEngine')[0]?.args[0]
    })
  }

  it('chooses by the size of the model', async () => {
    expect(await optionsFor(SMALL_MODEL_BYTES - 1)).toMatchObject({ threads: 1 })
    const threads = defaultThreads(SMALL_MODEL_BYTES)
    expect(await optionsFor(SMALL_MODEL_BYTES)).toMatchObject({ threads })
  })

  it('does what it is told', async () => {
    expect(await optionsFor(100, { threads: 5 })).toMatchObject({ threads: 5 })
    expect(await optionsFor(SMALL_MODEL_BYTES, { threads: 12 })).toMatchObject({ threads: 12 })
  })
})
