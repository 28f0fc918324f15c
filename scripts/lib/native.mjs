import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand } from '../../third_party/lib/command.mjs'
import { explain } from '../../third_party/lib/errors.mjs'
import { fingerprint, ROOT, readIfThere } from './paths.mjs'
import { buildPercent } from './progress.mjs'
import { publish } from './publish.mjs'
import { describeBuild } from './third-party.mjs'
import { JOBS } from './toolchain.mjs'

/** Where the addon lies after a build; node-gyp-build looks there. */
export const ADDON = join(ROOT, 'build', 'Release', 'polymind_native.node')

// CMake works in a folder of its own: node-gyp writes a Makefile into build/ itself.
/** Build folder of CMake. */
export const WORK = join(ROOT, 'build', 'cmake')
const STAMP = join(WORK, 'polymind-stamp.json')
const OUTPUT_VARIABLE =
  process.platform === 'win32' ? 'CMAKE_RUNTIME_OUTPUT_DIRECTORY' : 'CMAKE_LIBRARY_OUTPUT_DIRECTORY'
const LINK_FOLDER = join(WORK, 'addon')
/** What the linker writes. It becomes {@link ADDON} only when it is whole. */
export const CMAKE_ADDON = join(
  LINK_FOLDER,
  // Visual Studio adds the name of the configuration itself.
  process.platform === 'win32' ? 'Release' : '',
  'polymind_native.node',
)
const INPUTS = ['cpp', 'cmake', 'CMakeLists.txt', 'package.json', 'package-lock.json']

/** `native` unless `$POLYMIND_CPU_BUILD` says `portable`. */
export function cpuBuild() {
  return process.env.POLYMIND_CPU_BUILD === 'portable' ? 'portable' : 'native'
}

/**
 * Builds the addon with cmake-js.
 * @param {'native' | 'portable'} config
 * @param {{ source: string, libs: string }} llama from buildThirdParty
 * @param {{ percent?(fraction: number): void }} [progress]
 * @param {string} [target] CMake target; default the addon
 * @returns {Promise<boolean>} false when nothing had to be done
 * @throws {SetupError}
 */
export async function buildAddon(config, llama, progress = {}, target = 'polymind_native') {
  const key = fingerprint(INPUTS, [config, describeBuild(config).dir, target])
  const stamps = JSON.parse(readIfThere(STAMP) ?? '{}')
  if (stamps[target] === key && existsSync(ADDON)) return false
  const settings = {
    POLYMIND_LLAMA_DIR: llama.source,
    POLYMIND_LLAMA_LIBS: llama.libs,
    POLYMIND_PORTABLE: config === 'portable' ? 'ON' : 'OFF',
    POLYMIND_TESTS: 'ON',
    [OUTPUT_VARIABLE]: LINK_FOLDER,
  }
  const defines = Object.entries(settings).map(([name, value]) => `--CD${name}=${value}`)
  try {
    await cmakeJs(['configure', ...defines])
    await cmakeJs(['build', '--target', target, '--parallel', JOBS], progress)
    if (target === 'polymind_native') await publish(CMAKE_ADDON, ADDON)
  } catch (error) {
    throw explain(error, `building ${target}`)
  }
  // One configuration at a time lives in build/: another one's stamps are void.
  const others = stamps.config === config ? stamps : {}
  await writeFile(STAMP, JSON.stringify({ ...others, config, [target]: key }))
  return true
}

function cmakeJs(args, progress = {}) {
  const program = join(ROOT, 'node_modules', 'cmake-js', 'bin', 'cmake-js')
  return runCommand(process.execPath, [program, ...args, '--out', WORK, '--log-level', 'error'], {
    cwd: ROOT,
    onData: buildPercent((fraction) => progress.percent?.(fraction)),
  })
}
