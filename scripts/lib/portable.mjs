import { copyFile, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { runCommand } from '../../third_party/lib/command.mjs'
import { SetupError } from '../../third_party/lib/errors.mjs'
import { ROOT } from './paths.mjs'

const FEATURES = ['SSE42', 'AVX', 'AVX2', 'BMI2', 'FMA', 'F16C']
const AVX512 = ['AVX512', 'AVX512_VBMI', 'AVX512_VNNI', 'AVX512_BF16']

/**
 * Builds of ggml's CPU backend, by name; cpu_dispatch.c knows the same names and what each needs.
 * Every feature not listed is switched off.
 */
const VARIANTS = {
  baseline: ['SSE42'],
  haswell: FEATURES,
  skylakex: [...FEATURES, 'AVX512'],
  icelake: [...FEATURES, 'AVX512', 'AVX512_VBMI', 'AVX512_VNNI'],
  zen4: [...FEATURES, ...AVX512],
}

/** Whether this platform's portable build picks its kernels at run time; else it is one baseline. */
const DISPATCHES = process.platform === 'linux' && process.arch === 'x64'

// Variants must not share objects across the whole process.
const VARIANT_FLAGS = ' -fno-gnu-unique'

/** ggml's options for one variant. */
function variantOptions(common, name) {
  const options = { ...common, GGML_NATIVE: 'OFF' }
  if (!DISPATCHES) return options
  options.CMAKE_CXX_FLAGS += VARIANT_FLAGS
  for (const feature of [...FEATURES, ...AVX512]) {
    options[`GGML_${feature}`] = VARIANTS[name].includes(feature) ? 'ON' : 'OFF'
  }
  return options
}

/**
 * Makes the CPU backend of a portable build: the only part of llama.cpp that is compiled for a
 * certain CPU, so every other library is that of the native build.
 * @param {object} build
 * @param {string} build.libs where the library goes, over the native one
 * @param {string} build.work scratch folder
 * @param {Record<string, string>} build.options CMake options common to all
 * @param {(work: string, options: Record<string, string>, done: number) => Promise<string>}
 *   build.compile builds ggml's target ggml-cpu in `work` and returns the library's path
 */
export async function buildPortableBackend({ libs, work, options, compile }) {
  const names = DISPATCHES ? Object.keys(VARIANTS) : ['baseline']
  const archives = []
  for (const [index, name] of names.entries()) {
    const done = index / names.length
    archives.push(await compile(join(work, name), variantOptions(options, name), done))
  }
  if (!DISPATCHES) return copyFile(archives[0], join(libs, basename(archives[0])))
  const objects = await Promise.all(archives.map((path, i) => isolate(path, names[i], work)))
  objects.push(await compileDispatcher(work))
  const archive = join(libs, 'libggml-cpu.a')
  await rm(archive, { force: true })
  await runCommand('ar', ['rcs', archive, ...objects])
}

/**
 * Links an archive into one object whose only global symbol is its entry point.
 *
 * Inline functions of the standard library are compiled into each variant with that variant's
 * instructions. They sit in groups of which the final link keeps one for all: --force-group-
 * allocation dissolves the groups, so that the baseline never calls a copy made for AVX-512.
 */
async function isolate(archive, name, work) {
  const merged = join(work, `${name}-merged.o`)
  const object = join(work, `ggml-cpu-${name}.o`)
  const entry = `ggml_backend_cpu_reg_${name}`
  await runCommand('ld', [
    '-r',
    '--force-group-allocation',
    '--whole-archive',
    archive,
    '-o',
    merged,
  ])
  await runCommand('objcopy', ['--redefine-sym', `ggml_backend_cpu_reg=${entry}`, merged])
  await runCommand('objcopy', [`--keep-global-symbol=${entry}`, merged, object])
  await rm(merged)
  await checkIsolated(object, entry)
  return object
}

async function checkIsolated(object, entry) {
  const { stdout } = await runCommand('nm', ['--defined-only', '--extern-only', object])
  const globals = stdout
    .split('\n')
    .map((line) => line.split(' ').at(-1))
    .filter(Boolean)
  if (globals.length === 1 && globals[0] === entry) return
  throw new SetupError(
    'COMMAND_FAILED',
    `expected ${entry} as the only global symbol of ${object}, found ${globals.slice(0, 5).join(', ')}`,
  )
}

async function compileDispatcher(work) {
  const object = join(work, 'cpu_dispatch.o')
  const source = join(ROOT, 'third_party', 'portable', 'cpu_dispatch.c')
  const flags = ['-O2', '-fPIC', '-fvisibility=hidden', '-Wall', '-Wextra', '-Werror']
  await runCommand(process.env.CC || 'cc', [...flags, '-c', source, '-o', object])
  return object
}
