import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { load } from '../../lib/index.js'
import { defaultModel } from '../../lib/load.js'
import { reasonOf } from '../helpers/fake-engine.js'
import { CUTS, FLIPS } from '../helpers/mutants.js'
import { runFixture } from '../helpers/real.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'polymind-bad-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** Runs mutants in a child and returns how each ended; a dead child fails with the culprit. */
async function survive(which: string, kind: string, from: number, to: number): Promise<string[]> {
  const result = await runFixture(
    'load-mutants.ts',
    [which, kind, String(from), String(to)],
    300_000,
  )
  const lines = result.stdout.trim().split('\n')
  if (result.code !== 0) {
    const last = lines.at(-1)
    const how = `code ${result.code}, signal ${result.signal}`
    throw new Error(
      `${which} ${kind}: Node died (${how}) at mutant "${last}"\n${result.stderr.slice(-2000)}`,
    )
  }
  expect(lines).toHaveLength(to - from)
  return lines.map((line) => line.replace(/^\d+ /, ''))
}

const TYPED =
  /^MM_(MODEL_INVALID|ABI_MISMATCH|MODEL_NOT_FOUND|OUT_OF_MEMORY|ENGINE_UNAVAILABLE|CONTEXT_OVERFLOW|MEDIA_INVALID)$/

describe('damaged models', () => {
  it.each(['model', 'mmproj'])('%s cut at 50 places: always a typed error', async (which) => {
    const endings = await survive(which, 'cut', 0, CUTS)
    for (const ending of endings) expect(ending).toMatch(/^MM_(MODEL_INVALID|ABI_MISMATCH)$/)
  })

  const BATCH = 125
  const batches = Array.from({ length: FLIPS / 2 / BATCH }, (_, i) => i * BATCH)
  for (const which of ['model', 'mmproj']) {
    it.each(batches)(
      `${which} with a flipped byte (%i on): loads or a typed error`,
      async (from) => {
        const endings = await survive(which, 'flip', from, from + BATCH)
        for (const ending of endings) {
          if (!ending.startsWith('loaded ')) expect(ending).toMatch(TYPED)
        }
        expect(endings.some((ending) => ending === 'MM_MODEL_INVALID')).toBe(true)
      },
      300_000,
    )
  }
})

describe('files that are no model', () => {
  it.each<[string, Buffer | string]>([
    ['empty', ''],
    ['a text', 'hello, I am no model'],
    ['only the magic', 'GGUF'],
    ['a GGUF of version 99', Buffer.from('GGUF\x63\0\0\0', 'latin1')],
    [
      'a header that promises everything',
      Buffer.concat([Buffer.from('GGUF\x03\0\0\0', 'latin1'), Buffer.alloc(16, 0xff)]),
    ],
  ])('%s', async (_, content) => {
    const path = join(folder, 'bad.gguf')
    await writeFile(path, content)
    const error = await reasonOf(load(path))
    expect(error).toMatchObject({ code: 'MM_MODEL_INVALID' })
    expect((error as Error).message.length).toBeGreaterThan(20)
  })

  it('a projector where the model should be, and the reverse', async () => {
    const { model, mmproj } = defaultModel()
    expect(await reasonOf(load(mmproj))).toMatchObject({ code: 'MM_MODEL_INVALID' })
    expect(await reasonOf(load({ model, mmproj: model }))).toMatchObject({
      code: expect.stringMatching(/MM_MODEL_INVALID|MM_ABI_MISMATCH/),
    })
  })
})
