import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { copyFile, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { cacheDir } from '../../third_party/lib/cache.mjs'
import { runCommand } from '../../third_party/lib/command.mjs'
import { explain } from '../../third_party/lib/errors.mjs'
import { locate, provision } from '../../third_party/provision.mjs'
import { withLock } from './lock.mjs'
import { ROOT } from './paths.mjs'
import { buildPortableBackend } from './portable.mjs'
import { buildPercent } from './progress.mjs'
import { compiler, cpuIdentity, generatorArgs, JOBS, otherCCompiler } from './toolchain.mjs'

const STAMP = '.polymind-built.json'

// Bump when the way the libraries are built changes in a manner that the flags do not show.
const RECIPE = 1
const PORTABLE_SOURCES = [
  join(ROOT, 'third_party', 'portable', 'cpu_dispatch.c'),
  join(ROOT, 'scripts', 'lib', 'portable.mjs'),
]

// No OpenMP: its threads belong to the process, ours to one engine. No TLS, no HTTP downloads, no
// subprocesses: a library inside Node has no business with any of them.
const LIBRARY_OPTIONS = {
  BUILD_SHARED_LIBS: 'OFF',
  CMAKE_POSITION_INDEPENDENT_CODE: 'ON',
  CMAKE_C_VISIBILITY_PRESET: 'hidden',
  CMAKE_CXX_VISIBILITY_PRESET: 'hidden',
  CMAKE_VISIBILITY_INLINES_HIDDEN: 'ON',
  LLAMA_BUILD_COMMON: 'ON',
  LLAMA_BUILD_MTMD: 'ON',
  LLAMA_BUILD_TOOLS: 'OFF',
  LLAMA_BUILD_TESTS: 'OFF',
  LLAMA_BUILD_EXAMPLES: 'OFF',
  LLAMA_BUILD_SERVER: 'OFF',
  LLAMA_BUILD_APP: 'OFF',
  LLAMA_BUILD_UI: 'OFF',
  LLAMA_USE_PREBUILT_UI: 'OFF',
  LLAMA_OPENSSL: 'OFF',
  LLAMA_SUBPROCESS: 'OFF',
  MTMD_VIDEO: 'OFF',
  GGML_OPENMP: 'OFF',
  GGML_METAL: 'OFF',
  GGML_BLAS: 'OFF',
  LLAMA_ALL_WARNINGS: 'OFF',
  GGML_ALL_WARNINGS: 'OFF',
}

// ggml aborts the process on a failed assertion unless its callback throws, and an exception can
// only pass through C frames that were compiled with unwind tables.
const UNIX_FLAGS = '-fexceptions -ffunction-sections -fdata-sections'

const SANITIZED = {
  CMAKE_BUILD_TYPE: 'RelWithDebInfo',
  CMAKE_C_FLAGS_RELWITHDEBINFO: '-O1 -g1',
  CMAKE_CXX_FLAGS_RELWITHDEBINFO: '-O1 -g1',
  GGML_NATIVE: 'ON',
}

/** CMake options that differ by configuration; `peers` is llama.cpp as its own users build it. */
const CONFIGS = {
  native: { CMAKE_BUILD_TYPE: 'Release', GGML_NATIVE: 'ON' },
  portable: { CMAKE_BUILD_TYPE: 'Release', GGML_NATIVE: 'OFF' },
  address: { ...SANITIZED, LLAMA_SANITIZE_ADDRESS: 'ON', GGML_SANITIZE_ADDRESS: 'ON' },
  thread: { ...SANITIZED, LLAMA_SANITIZE_THREAD: 'ON', GGML_SANITIZE_THREAD: 'ON' },
}

/** The names that `buildThirdParty` accepts. */
export const CONFIG_NAMES = Object.keys(CONFIGS)

/** CMake arguments and the cache folder of a configuration. */
export function describeBuild(config) {
  const { key: sourceKey } = locate()
  const options = { ...LIBRARY_OPTIONS, ...CONFIGS[config] }
  if (process.platform === 'win32') {
    // cmake-js builds addons against the static runtime; both must agree.
    options.CMAKE_MSVC_RUNTIME_LIBRARY = 'MultiThreaded'
  } else {
    options.CMAKE_C_FLAGS = `${process.env.CFLAGS ?? ''} ${UNIX_FLAGS}`.trim()
    options.CMAKE_CXX_FLAGS = `${process.env.CXXFLAGS ?? ''} ${UNIX_FLAGS}`.trim()
  }
  const recipe = config === 'portable' ? [RECIPE, ...readPortableSources()] : RECIPE
  return { ...finishDescription(config, sourceKey, options, recipe), options }
}

const readPortableSources = () => PORTABLE_SOURCES.map((path) => readFileSync(path, 'utf8'))

const toDefines = (options) => Object.entries(options).map(([name, value]) => `-D${name}=${value}`)

/** Adds the cache key: same source, same options, same compiler and, where it matters, same CPU. */
export function finishDescription(config, sourceKey, options, recipe = RECIPE) {
  const cpu = options.GGML_NATIVE === 'OFF' ? process.arch : cpuIdentity()
  const identity = [recipe, sourceKey, options, compiler(), otherCCompiler(), cpu]
  const hash = createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 16)
  const dir = join(cacheDir(), `build-${hash}-${config}`)
  return { dir, defines: toDefines(options), ready: existsSync(join(dir, STAMP)) }
}

/**
 * Builds llama.cpp's libraries into the cache unless they are there.
 *
 * One process builds at a time; another one that wants the same waits for it. An interrupted build
 * goes on where it stopped.
 * @param {string} config one of CONFIG_NAMES
 * @param {{ percent?(fraction: number): void, note?(line: string): void }} [progress]
 * @returns {Promise<{ source: string, libs: string, built: boolean }>}
 * @throws {SetupError}
 */
export async function buildThirdParty(config, progress = {}) {
  const { dir: source } = await provision({ log: (line) => progress.note?.(line) })
  const build = describeBuild(config)
  const libs = join(build.dir, 'lib')
  if (build.ready) return { source, libs, built: false }
  try {
    await withLock(
      `${build.dir}.lock`,
      () => buildUnlessDone(source, build, libs, config, progress),
      (pid) => progress.note?.(`process ${pid} is building the same libraries: waiting`),
    )
  } catch (error) {
    throw explain(error, 'building llama.cpp')
  }
  return { source, libs, built: true }
}

async function buildUnlessDone(source, build, libs, config, progress) {
  if (existsSync(join(build.dir, STAMP))) return
  const work = join(build.dir, 'work')
  if (config === 'portable') {
    await buildPortable(source, build, work, libs, progress)
  } else {
    await configureAndBuild(source, work, build.defines, ['llama-common', 'mtmd'], progress)
    await collectLibraries(work, libs)
  }
  // Objects are three times the size of the libraries and of no further use.
  await rm(work, { recursive: true, force: true })
  await writeFile(join(build.dir, STAMP), JSON.stringify({ config }))
}

/** The native libraries with another CPU backend. */
async function buildPortable(source, build, work, libs, progress) {
  const native = await buildThirdParty('native', {
    note: (line) => progress.note?.(line),
    percent: (fraction) => progress.percent?.(fraction / 2),
  })
  await collectLibraries(native.libs, libs)
  await buildPortableBackend({
    libs,
    work,
    options: build.options,
    async compile(folder, options, done) {
      // Static libraries need not wait for those they are linked with later.
      const defines = toDefines({ ...options, CMAKE_OPTIMIZE_DEPENDENCIES: 'ON' })
      progress.percent?.(0.5 + done / 2)
      await configureAndBuild(source, folder, defines, ['ggml-cpu'], {})
      const found = await findLibraries(folder)
      return found.find((path) => basename(path).includes('ggml-cpu'))
    },
  })
}

/** Runs CMake on a source tree and builds targets of it. */
export async function configureAndBuild(source, work, defines, targets, progress) {
  await mkdir(work, { recursive: true })
  await runCommand('cmake', ['-S', source, '-B', work, ...generatorArgs(), ...defines])
  const args = ['--build', work, '--config', 'Release', '--parallel', JOBS, '--target', ...targets]
  await runCommand('cmake', args, {
    onData: buildPercent((fraction) => progress.percent?.(fraction)),
  })
}

async function collectLibraries(from, libs) {
  await mkdir(libs, { recursive: true })
  for (const path of await findLibraries(from)) await copyFile(path, join(libs, basename(path)))
}

async function findLibraries(folder) {
  const entries = await readdir(folder, { recursive: true })
  return entries.filter((name) => /\.(a|lib)$/.test(name)).map((name) => join(folder, name))
}
