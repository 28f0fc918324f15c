import { copyFile, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
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

/** Whether this platform's portable build picks its kernels at run time. */
export function dispatchesAtRunTime() {
  return process.platform === 'linux' && process.arch === 'x64'
}

/** ggml's options for one variant. */
export function variantOptions(name) {
  // ggml on its own leaves llamafile's kernels out; llama.cpp switches them on.
  const options = { GGML_NATIVE: 'OFF', GGML_LLAMAFILE: 'ON' }
  for (const feature of [...FEATURES, ...AVX512]) {
    options[`GGML_${feature}`] = VARIANTS[name].includes(feature) ? 'ON' : 'OFF'
  }
  return options
}

/**
 * Replaces libggml-cpu.a by one that holds every variant and the dispatcher.
 * @param {object} build
 * @param {string} build.libs folder with the libraries; its libggml-cpu.a is the baseline variant
 * @param {string} build.work scratch folder
 * @param {Record<string, string>} build.options CMake options common to all
 * @param {(work: string, options: Record<string, string>, share: number) => Promise<void>}
 *   build.compile configures ggml with the options in `work` and builds its target ggml-cpu
 */
export async function buildVariants({ libs, work, options, compile }) {
  const names = Object.keys(VARIANTS)
  const objects = []
  await mkdir(work, { recursive: true })
  for (const [index, name] of names.entries()) {
    let archive = join(libs, 'libggml-cpu.a')
    if (name !== 'baseline') {
      const folder = join(work, name)
      await compile(folder, { ...options, ...variantOptions(name) }, index / (names.length - 1))
      archive = join(folder, 'src', 'libggml-cpu.a')
    }
    objects.push(await isolate(archive, name, work))
  }
  objects.push(await compileDispatcher(work))
  const archive = join(work, 'libggml-cpu.a')
  await rm(archive, { force: true })
  await runCommand('ar', ['rcs', archive, ...objects])
  await copyFile(archive, join(libs, 'libggml-cpu.a'))
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
