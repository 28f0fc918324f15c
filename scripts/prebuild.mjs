#!/usr/bin/env node
// Makes prebuilds/<platform>-<arch>/polymind-native.<libc>.node with prebuildify, which drives
// node-gyp, which runs binding.gyp, which runs the portable CMake build.
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { printError } from '../third_party/lib/errors.mjs'
import { ROOT } from './lib/paths.mjs'
import { runAttached } from './lib/run-attached.mjs'

/**
 * node-gyp wants Node's headers even for a target that compiles nothing, and downloads them unless
 * it is told where they are. Most installations of Node bring them along.
 */
function withHeaders(env) {
  const prefix = dirname(dirname(process.execPath))
  const here = existsSync(join(prefix, 'include', 'node', 'common.gypi'))
  return here && !env.npm_config_nodedir ? { ...env, npm_config_nodedir: prefix } : env
}

try {
  const program = join(ROOT, 'node_modules', 'prebuildify', 'bin.js')
  const args = [program, '--napi', '--strip', '--tag-libc', `--target=${process.versions.node}`]
  process.exitCode = await runAttached(process.execPath, args, {
    cwd: ROOT,
    env: withHeaders(process.env),
  })
} catch (error) {
  printError(error)
  process.exitCode = 1
}
