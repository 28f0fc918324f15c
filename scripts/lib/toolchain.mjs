import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { SetupError } from '../../third_party/lib/errors.mjs'

const CMAKE_FLOOR = [3, 21]
const NODE_FLOOR = [20, 19]

/** How many compilers run at once. */
export const JOBS = String(availableParallelism())

/**
 * Checks what the set-up needs before anything is fetched.
 * @throws {SetupError} `TOOL_MISSING` naming the first program that is missing or too old
 */
export function checkTools() {
  requireVersion('Node.js', process.versions.node, NODE_FLOOR, 'https://nodejs.org/')
  const cmake = output('cmake', ['--version'])
  if (!cmake) {
    throw new SetupError(
      'TOOL_MISSING',
      '`cmake` was not found on the PATH',
      'Install it: apt install cmake | brew install cmake | pip install cmake',
    )
  }
  requireVersion(
    'CMake',
    /(\d+\.\d+\.\d+)/.exec(cmake)?.[1] ?? '0',
    CMAKE_FLOOR,
    'pip install cmake',
  )
  if (!output('git', ['--version'])) {
    throw new SetupError(
      'TOOL_MISSING',
      '`git` was not found on the PATH',
      'Install it: apt install git | brew install git | https://git-scm.com/download/win',
    )
  }
  compiler()
}

/**
 * The C++ compiler that CMake will pick: `$CXX`, else the system's.
 * @returns {string} a text that identifies it and its version
 * @throws {SetupError} `TOOL_MISSING`
 */
export function compiler() {
  // CMake finds Visual Studio by itself, outside of the PATH.
  if (process.platform === 'win32' && !process.env.CXX) {
    return `msvc ${process.env.VCToolsVersion ?? 'default'}`
  }
  const candidates = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++']
  for (const candidate of candidates) {
    const [program, ...flags] = candidate.split(' ')
    const version = output(program, [...flags, '--version'])
    if (version) return `${version.split('\n')[0]} ${output(program, ['-dumpmachine'])?.trim()}`
  }
  throw new SetupError(
    'TOOL_MISSING',
    `no C++ compiler was found (tried ${candidates.join(', ')})`,
    'Install one: apt install g++ | xcode-select --install | Visual Studio Build Tools',
  )
}

/**
 * The version of `$CC` where that is another compiler than the default, else an empty text. CMake
 * itself sets CC for the programs it runs; that must not look like a different build.
 */
export function otherCCompiler() {
  const version = process.env.CC && output(process.env.CC.split(' ')[0], ['--version'])
  return version && version !== output('cc', ['--version']) ? version.split('\n')[0] : ''
}

/** Ninja when it is there, else whatever CMake takes by default. */
export function generatorArgs() {
  return output('ninja', ['--version']) ? ['-G', 'Ninja'] : []
}

/** Identifies the CPU's instruction set: a build for this machine may not run on another one. */
export function cpuIdentity() {
  let features = cpus()[0]?.model ?? 'unknown'
  if (process.platform === 'linux') {
    const text = readFileSync('/proc/cpuinfo', 'utf8')
    features = /^(?:flags|Features)\s*:.*$/m.exec(text)?.[0] ?? features
  }
  return createHash('sha256').update(`${process.arch} ${features}`).digest('hex').slice(0, 12)
}

function requireVersion(name, actual, floor, where) {
  const parts = actual.split('.').map(Number)
  const newEnough = parts[0] > floor[0] || (parts[0] === floor[0] && parts[1] >= floor[1])
  if (newEnough) return
  throw new SetupError(
    'TOOL_MISSING',
    `expected ${name} ${floor.join('.')} or newer, found ${actual}`,
    `Get a newer one: ${where}`,
  )
}

function output(program, args) {
  try {
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return null
  }
}
