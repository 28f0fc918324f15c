import { execFileSync } from 'node:child_process'
import { arch, cpus, platform, release, totalmem } from 'node:os'
import { packageRoot } from '../../lib/package-root.js'

export interface Machine {
  cpu: string
  cores: number
  memory_gib: number
  system: string
  node: string
  /** Compute threads that every contender was given. */
  threads: number
}

export function describeMachine(threads: number): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memory_gib: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${arch()} ${release()}`,
    node: process.version,
    threads,
  }
}

/** The commit being measured, with `-dirty` when the tree differs from it; '' outside git. */
export function currentCommit(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: packageRoot(), encoding: 'utf8' }).trim()
  try {
    const dirty = git('status', '--porcelain', '--untracked-files=no') !== ''
    return git('rev-parse', '--short=12', 'HEAD') + (dirty ? '-dirty' : '')
  } catch {
    return ''
  }
}
