#!/usr/bin/env node
// Runs the tests of the KV kernels as an aarch64 program: cross-compiled, in QEMU's user mode where
// this machine is another. Only cpp/kernels, which needs neither llama.cpp nor Node.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { runCommand } from '../third_party/lib/command.mjs'
import { explain, printError, SetupError } from '../third_party/lib/errors.mjs'
import { ROOT } from './lib/paths.mjs'
import { Progress } from './lib/progress.mjs'
import { runAttached } from './lib/run-attached.mjs'
import { JOBS } from './lib/toolchain.mjs'

const NATIVE = process.arch === 'arm64'
const COMPILER = NATIVE ? 'c++' : 'aarch64-linux-gnu-g++'
const EMULATOR = 'qemu-aarch64'
const GOOGLETEST = '/usr/src/googletest/googletest'
const CPP = join(ROOT, 'cpp')
const BUILD = join(ROOT, 'build', 'neon')

function hasProgram(name) {
  try {
    execFileSync(name, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

function checkNeeds() {
  const missing = [
    [hasProgram(COMPILER), 'g++-aarch64-linux-gnu'],
    [NATIVE || hasProgram(EMULATOR), 'qemu-user'],
    [existsSync(join(GOOGLETEST, 'src', 'gtest-all.cc')), 'googletest'],
  ].flatMap(([there, name]) => (there ? [] : [name]))
  if (missing.length === 0) return
  throw new SetupError(
    'TOOL_MISSING',
    `the NEON tests need Debian packages that are not here: ${missing.join(', ')}`,
    `Get them with: apt install --no-install-recommends ${missing.join(' ')}`,
  )
}

/** Sources of the kernels and their tests; planning tests need page tables and run elsewhere. */
function sources() {
  const folders = ['kernels', 'kernels/cpu', 'kernels/reference'].map((name) => join(CPP, name))
  return folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith('.cpp') && !name.startsWith('attention_plan'))
      .map((name) => join(folder, name)),
  )
}

/** Newest change of any header: an object older than that is compiled again. */
function newestHeader() {
  const times = ['kernels', 'kernels/cpu', 'kv'].flatMap((name) =>
    readdirSync(join(CPP, name))
      .filter((file) => file.endsWith('.h'))
      .map((file) => statSync(join(CPP, name, file)).mtimeMs),
  )
  return Math.max(...times)
}

async function compile(source, headers) {
  const object = join(BUILD, `${basename(source, '.cpp').replace('.cc', '')}.o`)
  const built = statSync(object, { throwIfNoEntry: false })?.mtimeMs ?? 0
  if (built > statSync(source).mtimeMs && built > headers) return object
  const include = [CPP, GOOGLETEST, join(GOOGLETEST, 'include')].flatMap((path) => ['-I', path])
  const flags = ['-std=c++20', '-O2', '-Wall', '-Wextra', ...include]
  await runCommand(COMPILER, [...flags, '-c', source, '-o', object])
  return object
}

async function build(step) {
  mkdirSync(BUILD, { recursive: true })
  const all = [
    ...sources(),
    join(GOOGLETEST, 'src', 'gtest-all.cc'),
    join(GOOGLETEST, 'src', 'gtest_main.cc'),
  ]
  const headers = newestHeader()
  const objects = []
  const waiting = [...all]
  const worker = async () => {
    for (let source = waiting.shift(); source; source = waiting.shift()) {
      objects.push(await compile(source, headers))
      step.percent(objects.length / all.length)
    }
  }
  const program = join(BUILD, 'kernel_tests')
  try {
    await Promise.all(Array.from({ length: Number(JOBS) }, worker))
    // Static: the emulator then needs no aarch64 libraries of the system.
    await runCommand(COMPILER, ['-static', ...objects, '-o', program, '-lpthread'])
  } catch (error) {
    throw explain(error, 'building the kernel tests for aarch64')
  }
  return program
}

try {
  checkNeeds()
  let program
  await new Progress(1).step('KV kernel tests (aarch64)', async (step) => {
    program = await build(step)
  })
  const args = ['--gtest_brief=1', ...process.argv.slice(2)]
  process.exitCode = NATIVE
    ? await runAttached(program, args)
    : await runAttached(EMULATOR, [program, ...args])
} catch (error) {
  printError(error)
  process.exitCode = 1
}
