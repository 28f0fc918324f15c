import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ADDON, CMAKE_ADDON } from './native.mjs'
import { ROOT } from './paths.mjs'
import { publish } from './publish.mjs'

describe('publish', () => {
  let folder
  let from
  let to

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'polymind-publish-'))
    from = join(folder, 'new')
    to = join(folder, 'deep', 'addon.node')
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  it('replaces the old file and leaves nothing beside it', async () => {
    writeFileSync(from, 'one')
    await publish(from, to)
    writeFileSync(from, 'two')
    await publish(from, to)
    expect(readFileSync(to, 'utf8')).toBe('two')
    expect(readdirSync(join(folder, 'deep'))).toEqual(['addon.node'])
  })

  it('keeps the old file when there is no new one', async () => {
    writeFileSync(from, 'old')
    await publish(from, to)
    rmSync(from)
    await expect(publish(from, to)).rejects.toThrow('ENOENT')
    expect(readFileSync(to, 'utf8')).toBe('old')
    expect(readdirSync(join(folder, 'deep'))).toEqual(['addon.node'])
  })

  it('leaves a whole file behind wherever the build is killed', async () => {
    const size = 16 * 2 ** 20
    const bytes = [Buffer.alloc(size, 'a'), Buffer.alloc(size, 'b')]
    const files = bytes.map((content, i) => {
      writeFileSync(`${from}${i}`, content)
      return `${from}${i}`
    })
    await publish(files[0], to)
    const module = pathToFileURL(join(ROOT, 'scripts', 'lib', 'publish.mjs')).href
    const script = `
      const { publish } = await import(${JSON.stringify(module)})
      console.log('ready')
      for (let i = 0; ; i++) await publish(${JSON.stringify(files)}[i % 2], ${JSON.stringify(to)})`
    for (let round = 0; round < 8; round++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script])
      await new Promise((resolve) => child.stdout.once('data', resolve))
      await sleep(5 + 7 * round)
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGKILL')
      await ended
      const left = readFileSync(to)
      expect(bytes.some((content) => content.equals(left))).toBe(true)
    }
  })
})

it('the linker does not write where the addon is loaded from', () => {
  expect(CMAKE_ADDON).not.toBe(ADDON)
  const built = readFileSync(CMAKE_ADDON)
  expect(built.equals(readFileSync(ADDON))).toBe(true)
})
