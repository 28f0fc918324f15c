import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLI, requireBuilt } from '../helpers/real.js'

// Terminals are made by Python's pty module: Node has none, and a native module only for this test
// would be one more thing to build.
const hasPty = spawnSync('python3', ['-c', 'import pty']).status === 0
const terminal = fileURLToPath(new URL('../fixtures/terminal.py', import.meta.url))

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'polymind-tty-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function type(steps: [waitFor: string, keys: string][], args: string[]) {
  const script = join(folder, 'script.json')
  await writeFile(script, JSON.stringify(steps))
  const command = [terminal, script, process.execPath, requireBuilt(CLI), ...args]
  const { status, stdout } = spawnSync('python3', command, { encoding: 'utf8', timeout: 120_000 })
  return { code: status, screen: stdout }
}

const ENDLESS = ['--grammar', 'root ::= [a-z ] root', '--no-tools']

describe.skipIf(!hasPty)('on a terminal', () => {
  it('Ctrl-C stops the answer and not the chat', async () => {
    const { code, screen } = await type(
      [
        ['> ', 'hello\r'],
        ['hello', '^C'],
        ['(stopped)', 'again\r'],
        ['again', '^C'],
        ['(stopped)', '/quit\r'],
      ],
      ['chat', ...ENDLESS],
    )
    expect(screen).toContain('(stopped)')
    expect(code).toBe(0)
  })

  it('Ctrl-C twice at the prompt leaves', async () => {
    const { code, screen } = await type(
      [
        ['> ', '^C'],
        ['Ctrl-C again', '^C'],
      ],
      ['chat'],
    )
    expect(screen).toContain('Ctrl-C again or Ctrl-D leaves')
    expect(code).toBe(0)
  })

  it('Ctrl-D leaves', async () => {
    expect((await type([['> ', '^D']], ['chat'])).code).toBe(0)
  })

  it('Ctrl-C ends mm run with what came so far and exit code 1', async () => {
    const { code, screen } = await type([['a', '^C']], ['run', 'hello', ...ENDLESS])
    expect(screen).toContain('MM_CANCELLED')
    expect(code).toBe(1)
  })
})
