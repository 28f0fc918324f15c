import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

const STALE_MS = 24 * 60 * 60 * 1000

/**
 * Folder outside the tree where provisioned sources and third-party builds live, shared by every
 * clone of the repository: `$POLYMIND_CACHE`, else the platform's own cache folder.
 */
export function cacheDir() {
  const { POLYMIND_CACHE, XDG_CACHE_HOME, LOCALAPPDATA } = process.env
  if (POLYMIND_CACHE) return resolve(POLYMIND_CACHE)
  if (process.platform === 'win32') {
    return join(LOCALAPPDATA || join(homedir(), 'AppData', 'Local'), 'polymind-native', 'cache')
  }
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'polymind-native')
  return join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'polymind-native')
}

/**
 * Fills a folder of the cache as a whole or not at all: `fill` works in a private temporary folder
 * beside it, which then takes the final name in one rename. When two processes race, the first
 * rename wins and the other one uses that result. `stamp` is a file that only a complete folder
 * holds. Ctrl-C and SIGTERM remove the temporary folder too.
 *
 * @param {string} target the final path
 * @param {string} stamp name of the file that marks it complete; `fill` must write it last
 * @param {(dir: string) => Promise<void>} fill
 */
export async function fillAtomically(target, stamp, fill) {
  const parent = join(target, '..')
  await mkdir(parent, { recursive: true })
  await removeStale(parent)
  const temporary = join(parent, `.tmp-${process.pid}-${randomBytes(6).toString('hex')}`)
  const removeOnSignal = removeOnExit(temporary)
  try {
    await mkdir(temporary)
    await fill(temporary)
    await publish(temporary, target, stamp)
  } finally {
    removeOnSignal.cancel()
    await rm(temporary, { recursive: true, force: true, maxRetries: 3 })
  }
}

async function publish(temporary, target, stamp) {
  // A folder without its stamp is a leftover of something that did not go through here.
  if (existsSync(target) && !existsSync(join(target, stamp))) {
    await rm(target, { recursive: true, force: true })
  }
  try {
    await rename(temporary, target)
  } catch (error) {
    const lostTheRace = ['ENOTEMPTY', 'EEXIST', 'EPERM'].includes(error.code)
    if (!lostTheRace || !existsSync(join(target, stamp))) throw error
  }
}

/** Temporary folders of processes that were killed outright are swept after a day. */
async function removeStale(parent) {
  for (const name of await readdir(parent)) {
    if (!name.startsWith('.tmp-')) continue
    const path = join(parent, name)
    const age = Date.now() - (await stat(path).catch(() => ({ mtimeMs: Date.now() }))).mtimeMs
    if (age > STALE_MS) await rm(path, { recursive: true, force: true })
  }
}

function removeOnExit(path) {
  const handlers = ['SIGINT', 'SIGTERM', 'SIGHUP'].map((name) => {
    const handler = () => {
      rm(path, { recursive: true, force: true, maxRetries: 3 }).finally(() => {
        process.removeListener(name, handler)
        process.kill(process.pid, name)
      })
    }
    process.on(name, handler)
    return [name, handler]
  })
  return {
    cancel() {
      for (const [name, handler] of handlers) process.removeListener(name, handler)
    },
  }
}
