import { mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Engine, type LoadOptions, load, type RunRequest } from '../../lib/index.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'polymind-kv-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const long = (item: number): RunRequest => ({
  inputs: [{ type: 'text', text: `Item ${item}: ${'abc def ghi '.repeat(60)} What is 3 plus 4?` }],
  preferences: { max_tokens: 12, temperature: 0 },
})

async function withEngine<T>(options: LoadOptions, work: (engine: Engine) => Promise<T>) {
  await using engine = await load(undefined, { threads: 1, ...options })
  return await work(engine)
}

describe('kv.spill', () => {
  it('brings prefixes back that had to leave memory, with the same answers', async () => {
    await writeFile(join(folder, 'keep'), '')
    const kv = { budget_bytes: 2 << 20, spill: { dir: folder, bytes: 64 << 20 } }
    await withEngine({ kv }, async (engine) => {
      const texts: string[] = []
      for (let i = 0; i < 6; i++) texts.push((await engine.run(long(i))).text)
      const before = engine.stats().kv
      expect(before.evictions).toBeGreaterThan(0)
      expect(before.spilled_pages).toBeGreaterThan(0)
      for (let i = 0; i < 6; i++) {
        const again = await engine.run(long(i))
        expect(again.text).toBe(texts[i])
        expect(again.usage.cached_tokens).toBeGreaterThan(400)
      }
    })
    // The spill file goes with its engine.
    expect(await readdir(folder)).toEqual(['keep'])
  })

  it.each([
    [
      'a folder inside a file',
      { dir: join(import.meta.filename, 'x'), bytes: 1 << 26 },
      'kv.spill.dir',
    ],
    ['a size below one page', { dir: tmpdir(), bytes: 10 }, 'kv.spill.bytes'],
  ])('refuses %s', async (_, spill, where) => {
    const loading = load(undefined, { kv: { spill } })
    await expect(loading).rejects.toMatchObject({
      code: 'MM_INVALID_REQUEST',
      message: expect.stringContaining(where),
    })
  })
})

describe('saveConversation and loadConversation', () => {
  it('continue in another engine where the first one stopped', async () => {
    const file = join(folder, 'conversation.kv')
    const text = await withEngine({}, async (engine) => {
      const { text } = await engine.run(long(1))
      const saved = await engine.saveConversation(file, long(1))
      expect(saved).toEqual({ tokens: 480, pages: 15 })
      return text
    })
    await withEngine({}, async (engine) => {
      expect(await engine.loadConversation(file)).toEqual({ tokens: 480, pages: 15 })
      const result = await engine.run(long(1))
      expect(result.text).toBe(text)
      expect(result.usage.cached_tokens).toBe(480)
    })
  })

  it('refuse damaged files, other settings and missing ones, and serve wrong text never', async () => {
    const file = join(folder, 'damaged.kv')
    await withEngine({}, async (engine) => {
      const { text } = await engine.run(long(2))
      await engine.saveConversation(file, long(2))
      const whole = await readFile(file)
      const size = (await stat(file)).size
      const nowhere = join(file, 'inside-a-file')
      const invalid = { code: 'MM_INVALID_REQUEST' }
      for (const at of [0, 40, 88, 5000, size - 1]) {
        const flipped = Buffer.from(whole)
        flipped[at] = (flipped[at] as number) ^ 0x10
        await writeFile(file, flipped)
        await expect(engine.loadConversation(file), `byte ${at}`).rejects.toMatchObject(invalid)
      }
      await writeFile(file, whole)
      await truncate(file, size - 100)
      await expect(engine.loadConversation(file)).rejects.toMatchObject(invalid)
      await expect(engine.loadConversation(nowhere)).rejects.toMatchObject(invalid)
      await expect(engine.saveConversation(nowhere, long(2))).rejects.toMatchObject(invalid)
      await writeFile(file, whole)
      await withEngine({ kv: { dtype: 'bf16' } }, async (other) => {
        await expect(other.loadConversation(file)).rejects.toMatchObject(invalid)
        expect((await other.run(long(2))).usage.cached_tokens).toBe(0)
      })
      expect((await engine.run(long(2))).text).toBe(text)
    })
  })

  it('need a prefix cache, and say so', async () => {
    await withEngine({ kv: { memory: 'stock' } }, async (engine) => {
      await expect(engine.saveConversation(join(folder, 'x'), long(1))).rejects.toMatchObject({
        code: 'MM_ENGINE_UNAVAILABLE',
      })
    })
  })

  it('settle when the engine is disposed meanwhile', async () => {
    const engine = await load(undefined, { threads: 1 })
    const saving = engine.saveConversation(join(folder, 'late.kv'), long(3))
    const outcome = saving.then(
      () => 'saved',
      (error) => error.code,
    )
    await engine.dispose()
    expect(['saved', 'MM_DISPOSED']).toContain(await outcome)
  })
})
