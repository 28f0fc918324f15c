import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { explain } from '../../third_party/lib/errors.mjs'
import { locate, provision } from '../../third_party/provision.mjs'
import { withLock } from './lock.mjs'
import { configureAndBuild, finishDescription } from './third-party.mjs'

/** llama.cpp's own programs that benchmarks and comparisons run beside ours. */
export const PEER_NAMES = [
  'llama-bench',
  'llama-batched-bench',
  'llama-completion',
  'llama-mtmd-cli',
  'llama-server',
]

// As llama.cpp's users build it: its own defaults, OpenMP included. Only what needs the network or
// a browser is left out.
const STOCK_OPTIONS = {
  CMAKE_BUILD_TYPE: 'Release',
  BUILD_SHARED_LIBS: 'OFF',
  LLAMA_OPENSSL: 'OFF',
  LLAMA_BUILD_UI: 'OFF',
  LLAMA_USE_PREBUILT_UI: 'OFF',
  LLAMA_BUILD_TESTS: 'OFF',
  LLAMA_BUILD_EXAMPLES: 'OFF',
}

const fileName = (name) => (process.platform === 'win32' ? `${name}.exe` : name)

/**
 * Where the stock programs are or would be.
 * @returns {{ dir: string, bin: string, defines: string[], missing: string[] }}
 */
export function locatePeers(names = PEER_NAMES) {
  const { key } = locate()
  const { dir, defines } = finishDescription('peers', key, STOCK_OPTIONS)
  const bin = join(dir, 'bin')
  const missing = names.filter((name) => !existsSync(join(bin, fileName(name))))
  return { dir, bin, defines, missing }
}

/**
 * Builds stock llama.cpp programs into the cache, from the same source as the addon.
 *
 * About five minutes on two cores for all of them; they are not needed to use the package.
 * @param {string[]} [names] of PEER_NAMES; default all
 * @param {{ percent?(fraction: number): void, note?(line: string): void }} [progress]
 * @returns {Promise<Record<string, string>>} name → path of the program
 * @throws {SetupError}
 */
export async function buildPeers(names = PEER_NAMES, progress = {}) {
  const { dir: source } = await provision({ log: (line) => progress.note?.(line) })
  const { dir, bin, defines, missing } = locatePeers(names)
  if (missing.length > 0) {
    try {
      await withLock(
        `${dir}.lock`,
        () => configureAndBuild(source, dir, defines, names, progress),
        (pid) => progress.note?.(`process ${pid} is building the same programs: waiting`),
      )
    } catch (error) {
      throw explain(error, `building ${names.join(', ')}`)
    }
  }
  return Object.fromEntries(names.map((name) => [name, join(bin, fileName(name))]))
}
