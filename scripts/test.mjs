#!/usr/bin/env node
// `npm test`: sets everything up, then the C++ tests and the TypeScript tests. The last line is
// the sum of both. `npm test -- PATTERN` runs only the Vitest files that match.
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand } from '../third_party/lib/command.mjs'
import { lastLines, printError } from '../third_party/lib/errors.mjs'
import { formatCounts, readVitest, sumRuns } from './lib/counts.mjs'
import { hasGoogleTest, NO_GTEST, runCtest } from './lib/ctest.mjs'
import { buildAddon, cpuBuild, WORK } from './lib/native.mjs'
import { ROOT } from './lib/paths.mjs'
import { Progress } from './lib/progress.mjs'
import { runAttached } from './lib/run-attached.mjs'
import { SETUP_STEPS, setUp } from './lib/setup.mjs'

const VITEST_REPORT = join(WORK, 'vitest.json')
const patterns = process.argv.slice(2)

async function prepare() {
  const progress = new Progress(SETUP_STEPS + 1)
  const llama = await setUp(progress)
  await progress.step('C++ tests', async (step) => {
    if (!hasGoogleTest(WORK)) return 'left out'
    return (await buildAddon(cpuBuild(), llama, step, 'polymind_tests')) ? 'built' : 'up to date'
  })
}

/** The type checker as a runner of one test: an error in it does not hide the other results. */
async function runTypeCheck() {
  const program = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
  try {
    await runCommand(process.execPath, [program, '--noEmit'], { cwd: ROOT })
    console.log('types: passed')
    return { counts: { passed: 1, failed: 0, skipped: 0 }, status: 0 }
  } catch (error) {
    if (error.exitCode === undefined) throw error
    console.log(`types: failed\n${lastLines(error.output, 40)}`)
    return { counts: { passed: 0, failed: 1, skipped: 0 }, status: error.exitCode }
  }
}

async function runVitest() {
  await rm(VITEST_REPORT, { force: true })
  const program = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${VITEST_REPORT}`]
  const status = await runAttached(process.execPath, [program, 'run', ...reporters, ...patterns], {
    cwd: ROOT,
  })
  if (existsSync(VITEST_REPORT)) return { counts: readVitest(VITEST_REPORT), status }
  console.error(`Vitest ended with status ${status} before it wrote its report`)
  return { counts: { passed: 0, failed: 1, skipped: 0 }, status }
}

try {
  await prepare()
  const runs = [await runTypeCheck()]
  const withCpp = hasGoogleTest(WORK) && patterns.length === 0
  if (withCpp) runs.push(await runCtest(WORK))
  runs.push(await runVitest())
  if (!hasGoogleTest(WORK)) console.log(`\n${NO_GTEST}`)
  const sum = sumRuns(runs)
  process.exitCode = sum.failed > 0 ? 1 : 0
  console.log(`\n${formatCounts(sum)}`)
} catch (error) {
  printError(error)
  process.exitCode = 1
}
