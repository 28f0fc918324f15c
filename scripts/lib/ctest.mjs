import { existsSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { readCtest } from './counts.mjs'
import { runAttached } from './run-attached.mjs'
import { JOBS } from './toolchain.mjs'

/** What to print where GoogleTest is missing. */
export const NO_GTEST =
  'GoogleTest was not found: the C++ suites polymind_unit_tests and polymind_engine_tests are left ' +
  'out.\n  Get it with: apt install libgtest-dev | brew install googletest'

/** Whether CMake found GoogleTest when it configured this build folder. */
export function hasGoogleTest(buildDir) {
  const cache = readFileSync(join(buildDir, 'CMakeCache.txt'), 'utf8')
  const found = /^GTest_DIR:\w+=(.*)$/m.exec(cache)?.[1]
  const library = /^GTEST_LIBRARY:\w+=(.*)$/m.exec(cache)?.[1]
  return [found, library].some((value) => value && !value.endsWith('NOTFOUND'))
}

/**
 * Runs every C++ test of a build folder.
 * @param {string} buildDir
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Promise<{ counts: import('./counts.mjs').Counts, status: number }>}
 */
export async function runCtest(buildDir, env = process.env) {
  const report = join(buildDir, 'ctest.xml')
  await rm(report, { force: true })
  const args = ['--test-dir', buildDir, '--output-junit', report, '--output-on-failure']
  args.push('--parallel', JOBS, '--no-tests=error', '--progress', '-C', 'Release')
  const status = await runAttached('ctest', args, { env })
  const counts = existsSync(report) ? readCtest(report) : { passed: 0, failed: 0, skipped: 0 }
  return { counts, status }
}
