/**
 * The programs that ours is measured against: llama.cpp's own, built from the same provisioned
 * source, and the npm package node-llama-cpp, installed into the cache folder.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../lib/package-root.js'
import { cacheFolder } from './lib/cache.js'

/** What build-peers.mjs builds. */
const PROGRAMS = [
  'llama-bench',
  'llama-batched-bench',
  'llama-completion',
  'llama-mtmd-cli',
  'llama-server',
]
const NODE_LLAMA_CPP = '3.22.1'

const programFile = (name: string): string => (process.platform === 'win32' ? `${name}.exe` : name)

/**
 * The folder that holds llama.cpp's programs: `$POLYMIND_PEERS`, else the build in the cache, which
 * is made first if it is not there (some minutes).
 *
 * @throws Error when a program is missing or the build fails.
 */
export function peersDirectory(): string {
  const folder = process.env.POLYMIND_PEERS ?? builtPeers()
  for (const program of PROGRAMS) {
    if (!existsSync(join(folder, programFile(program)))) {
      throw new Error(`expected ${program} in ${folder}, found no such file`)
    }
  }
  return folder
}

function builtPeers(): string {
  const script = join(packageRoot(), 'scripts', 'build-peers.mjs')
  const { status, stdout } = spawnSync(process.execPath, [script, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`npm run build:peers failed with exit code ${status}`)
  const last = stdout.trim().split('\n').at(-1) ?? ''
  return (JSON.parse(last) as { bin: string }).bin
}

/** One of llama.cpp's programs. */
export function peerProgram(name: string): string {
  return join(peersDirectory(), programFile(name))
}

/** The version of llama.cpp that third_party/lock.json pins, e.g. `v0.5.0`. */
export function llamaVersion(): string {
  const lock = readFileSync(join(packageRoot(), 'third_party', 'lock.json'), 'utf8')
  const { packages } = JSON.parse(lock) as {
    packages: { llama: { commit: string; upstream: string } }
  }
  const { commit, upstream } = packages.llama
  return /\((.+)\)/.exec(upstream)?.[1] ?? commit.slice(0, 12)
}

/** The folder whose node_modules holds node-llama-cpp with the prebuilt binary of this platform. */
export function nodeLlamaCppFolder(): { folder: string; version: string } {
  const folder = join(cacheFolder(), 'bench-peers', `node-llama-cpp-${NODE_LLAMA_CPP}`)
  const binary = `@node-llama-cpp/${binaryName()}`
  if (!existsSync(join(folder, 'node_modules', binary))) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), '{"private":true,"type":"module"}')
    // Its optional dependencies are the binaries of every platform and GPU: only one is wanted.
    const packages = [`node-llama-cpp@${NODE_LLAMA_CPP}`, `${binary}@${NODE_LLAMA_CPP}`]
    const flags = ['--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund']
    const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
    const { status } = spawnSync(npm, ['install', ...flags, ...packages], {
      cwd: folder,
      stdio: ['ignore', 2, 2],
      shell: process.platform === 'win32',
    })
    if (status !== 0) throw new Error(`npm install ${packages.join(' ')} failed`)
  }
  return { folder, version: NODE_LLAMA_CPP }
}

function binaryName(): string {
  if (process.platform === 'darwin') return process.arch === 'arm64' ? 'mac-arm64-metal' : 'mac-x64'
  const system = process.platform === 'win32' ? 'win' : 'linux'
  return `${system}-${process.arch}`
}
