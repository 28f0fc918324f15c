import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { withLock } from './lock.mjs'

describe('withLock', () => {
  let folder
  let lock

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'polymind-lock-'))
    lock = join(folder, 'deep', 'x.lock')
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  it('lets one in at a time and tells who is waited for', async () => {
    let inside = 0
    let most = 0
    const waited = []
    const work = async () => {
      inside += 1
      most = Math.max(most, inside)
      await sleep(20)
      inside -= 1
    }
    await Promise.all([1, 2, 3].map(() => withLock(lock, work, (pid) => waited.push(pid))))
    expect(most).toBe(1)
    expect(waited).toContain(process.pid)
    expect(existsSync(lock)).toBe(false)
  })

  it('is released when the work fails', async () => {
    await expect(withLock(lock, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(await withLock(lock, async () => 'again')).toBe('again')
  })

  it('takes over from an owner that died', async () => {
    const child = spawn(process.execPath, ['-e', ''])
    await new Promise((resolve) => child.on('exit', resolve))
    mkdirSync(lock, { recursive: true })
    writeFileSync(join(lock, 'pid'), String(child.pid))
    expect(await withLock(lock, async () => 'mine')).toBe('mine')
  })

  it('takes over a lock that its owner never signed', async () => {
    mkdirSync(lock, { recursive: true })
    const longAgo = new Date(Date.now() - 60_000)
    utimesSync(lock, longAgo, longAgo)
    expect(await withLock(lock, async () => 'mine')).toBe('mine')
  })
})
