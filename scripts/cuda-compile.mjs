#!/usr/bin/env node
// Compiles the GPU kernels (cpp/kernels/gpu) to CUDA: cuda-compile.mjs [ARCH…], by default sm_80,
// sm_90 and sm_120, and PTX for what comes after. Shows what each kernel takes. Needs Python with
// pip and a host C++ compiler, but no GPU.
import { existsSync } from 'node:fs'
import { mkdir, stat } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { runCommand } from '../third_party/lib/command.mjs'
import { explain, printError, SetupError } from '../third_party/lib/errors.mjs'
import { formatUsage, readPtxas } from './cuda-report.mjs'
import { cudaToolchain } from './cuda-toolchain.mjs'
import { ROOT } from './lib/paths.mjs'
import { Progress } from './lib/progress.mjs'

const ARCHS = ['sm_80', 'sm_90', 'sm_120']
const SOURCE = join(ROOT, 'cpp', 'kernels', 'gpu', 'kernels.cu')
const OUT = join(ROOT, 'build', 'cuda')
// No -use_fast_math: pages must get the bits that the CPU writes.
const FLAGS = ['-std=c++17', '-O3', '-I', join(ROOT, 'cpp'), '-Werror', 'all-warnings']

function checkHostCompiler() {
  const folders = (process.env.PATH ?? '').split(delimiter)
  if (folders.some((folder) => existsSync(join(folder, 'g++')))) return
  throw new SetupError(
    'TOOL_MISSING',
    'nvcc reads headers through g++, which was not found on the PATH',
    'Install it: apt install g++',
  )
}

async function checkArchs(nvcc, archs) {
  const { stdout } = await runCommand(nvcc, ['--list-gpu-code'])
  const known = stdout.trim().split(/\s+/)
  const unknown = archs.find((arch) => !known.includes(arch))
  if (!unknown) return
  throw new SetupError('COMMAND_FAILED', `expected one of ${known.join(', ')}, got ${unknown}`)
}

async function compile(nvcc, arch) {
  const file = join(OUT, `kernels.${arch}.cubin`)
  const { output } = await runCommand(nvcc, [
    ...FLAGS,
    ...['-cubin', `-arch=${arch}`, '-Xptxas', '-v', '-o', file, SOURCE],
  ])
  const usages = readPtxas(output)
  if (usages.length === 0) throw new Error('ptxas named no kernels')
  return { file, usages }
}

async function compilePtx(nvcc, arch) {
  const virtual = arch.replace('sm_', 'compute_')
  const file = join(OUT, `kernels.${virtual}.ptx`)
  await runCommand(nvcc, [...FLAGS, '-ptx', `-arch=${virtual}`, '-o', file, SOURCE])
  return file
}

const args = process.argv.slice(2)
const archs = args.length > 0 ? args : ARCHS

try {
  const progress = new Progress(archs.length + 2)
  const files = []
  const byArch = new Map()
  let nvcc
  checkHostCompiler()
  await progress.step('CUDA compiler', async () => {
    const toolchain = await cudaToolchain()
    nvcc = toolchain.nvcc
    await checkArchs(nvcc, archs)
    await mkdir(OUT, { recursive: true })
    return toolchain.fetched ? 'fetched' : 'up to date'
  })
  for (const arch of archs) {
    await progress.step(`kernels for ${arch}`, async () => {
      const { file, usages } = await compile(nvcc, arch)
      files.push(file)
      byArch.set(arch, usages)
    })
  }
  await progress.step('PTX for later architectures', async () => {
    files.push(await compilePtx(nvcc, archs[0]))
  })
  console.log(formatUsage(byArch))
  for (const file of files) console.log(`${file}: ${(await stat(file)).size} bytes`)
} catch (error) {
  printError(explain(error, 'compiling the GPU kernels with nvcc'))
  process.exitCode = 1
}
