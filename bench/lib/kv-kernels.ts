/** Builds and runs bench/kv_kernels.cpp: attention kernels beside a loop that only reads. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../lib/package-root.js'
import { runProgram } from './child.js'

/** What is read: pages of one KV head each, by `group` query heads. */
export interface AttentionShape {
  headSize: number
  group: number
  tokens: number
}

/** Groups that the program runs; the next larger one computes at least as much. */
const GROUPS = [1, 4, 7, 8]

/** GB/s of `dtype` pages through the attention kernel, and of the same pages through a read loop. */
export async function kernelRates(
  dtype: string,
  { headSize, group, tokens }: AttentionShape,
): Promise<{ attention: number; read: number }> {
  const known = GROUPS.find((size) => size >= group) ?? 8
  const sizes = [headSize, known, tokens].map(String) as [string, string, string]
  const args = ['--head', sizes[0], '--group', sizes[1], '--tokens', sizes[2]]
  const output = await runProgram(builtProgram(), args)
  const pattern = new RegExp(
    `^decode +\\S+ +K ${dtype} +V ${dtype} .*: +([\\d.]+) GB/s of +([\\d.]+)`,
    'm',
  )
  // The fastest kernels of this machine, which an engine chooses too, come first.
  const found = pattern.exec(output)
  if (found === null) throw new Error(`expected a decode line for ${dtype}, got:\n${output}`)
  return { attention: Number(found[1]), read: Number(found[2]) }
}

/** Compiles the program again when a source is newer: kernels choose their instructions at run time. */
function builtProgram(): string {
  const root = packageRoot()
  const folder = join(root, 'build', 'bench')
  const program = join(folder, process.platform === 'win32' ? 'kv_kernels.exe' : 'kv_kernels')
  const sources = [join(root, 'bench', 'kv_kernels.cpp'), ...kernelSources(root)]
  const newest = Math.max(...sources.map((file) => statSync(file).mtimeMs))
  if (existsSync(program) && statSync(program).mtimeMs > newest) return program
  mkdirSync(folder, { recursive: true })
  const compiler = process.env.CXX ?? 'c++'
  const inputs = sources.filter((file) => file.endsWith('.cpp'))
  process.stderr.write('  compiling bench/kv_kernels.cpp\n')
  const flags = ['-std=c++20', '-O3', '-I', join(root, 'cpp'), '-o', program]
  execFileSync(compiler, [...flags, ...inputs, '-lpthread'], { stdio: ['ignore', 2, 2] })
  return program
}

/** Sources and headers of cpp/kernels, without tests. */
function kernelSources(root: string): string[] {
  const kernels = join(root, 'cpp', 'kernels')
  return ['', 'cpu', 'reference'].flatMap((name) => {
    const folder = join(kernels, name)
    return readdirSync(folder)
      .filter((file) => /\.(cpp|h)$/.test(file) && !/_test\.cpp$|test_support/.test(file))
      .map((file) => join(folder, file))
  })
}
