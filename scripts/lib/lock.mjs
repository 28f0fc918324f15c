import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_MS = 500

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
    if (owner !== null && !isAlive(owner)) {
      await rm(path, { recursive: true, force: true })
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
