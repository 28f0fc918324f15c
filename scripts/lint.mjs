#!/usr/bin/env node
// Biome for TypeScript and JSON, clang-format for C++; --write fixes what it can.
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './lib/paths.mjs'
import { runAttached } from './lib/run-attached.mjs'

const write = process.argv.includes('--write')

function hasClangFormat() {
  try {
    execFileSync('clang-format', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

async function lintCpp() {
  if (!hasClangFormat()) {
    console.log('clang-format was not found: C++ is not checked (pip install clang-format)')
    return 0
  }
  const files = readdirSync(join(ROOT, 'cpp'), { recursive: true })
    .filter((name) => /\.(h|cpp)$/.test(name))
    .map((name) => join(ROOT, 'cpp', name))
  if (files.length === 0) return 0
  return runAttached('clang-format', [...(write ? ['-i'] : ['--dry-run', '--Werror']), ...files])
}

const biome = join(ROOT, 'node_modules', '@biomejs', 'biome', 'bin', 'biome')
const args = ['check', ...(write ? ['--write'] : []), '.']
const statuses = [
  await runAttached(process.execPath, [biome, ...args], { cwd: ROOT }),
  await lintCpp(),
]
process.exitCode = statuses.some((status) => status !== 0) ? 1 : 0
