import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_MS = 500
const UNSIGNED_MS = 10_000

/**
 * Runs `work` while no other process holds the same lock. A lock whose owner died is taken over.
 * @template T
 * @param {string} path folder that stands for the lock
 * @param {() => Promise<T>} work
 * @param {(pid: number) => void} [onWait] told once when another process has to be waited for
 * @returns {Promise<T>}
 */
export async function withLock(path, work, onWait = () => {}) {
  await mkdir(dirname(path), { recursive: true })
  for (let told = false; !(await acquire(path)); ) {
    const owner = await ownerOf(path)
    if (owner === null ? await isOld(path) : !isAlive(owner)) {
      await evict(path, owner)
      continue
    }
    if (!told && owner !== null) onWait(owner)
    told = told || owner !== null
    await sleep(POLL_MS)
  }
  try {
    return await work()
  } finally {
    await rm(path, { recursive: true, force: true })
  }
}

async function acquire(path) {
  try {
    await mkdir(path)
  } catch (error) {
    if (error.code === 'EEXIST') return false
    throw error
  }
  await writeFile(join(path, 'pid'), String(process.pid))
  return true
}

/**
 * Removes a dead owner's lock, by renaming it first: of several that wait, one succeeds. Should
 * the lock have changed hands in between, it is given back.
 */
async function evict(path, deadOwner) {
  const aside = `${path}.${process.pid}.${Date.now()}`
  try {
    await rename(path, aside)
    if ((await ownerOf(aside)) !== deadOwner) return await rename(aside, path)
  } catch (error) {
    if (error.code !== 'ENOENT') throw error
  }
  await rm(aside, { recursive: true, force: true })
}

/** A lock that nobody signed for this long belongs to a process that died while taking it. */
async function isOld(path) {
  const info = await stat(path).catch(() => null)
  return info !== null && Date.now() - info.mtimeMs > UNSIGNED_MS
}

/** The owner's process id, or null while it has not been written yet. */
async function ownerOf(path) {
  const pid = Number(await readFile(join(path, 'pid'), 'utf8').catch(() => ''))
  return Number.isInteger(pid) && pid > 0 ? pid : null
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}
