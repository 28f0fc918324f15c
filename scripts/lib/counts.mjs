import { readFileSync } from 'node:fs'

/**
 * Counts of one test runner.
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 */

/**
 * Reads what `ctest --output-junit` wrote.
 * @returns {Counts}
 */
export function readCtest(path) {
  const suite = /<testsuite\b[^>]*>/.exec(readFileSync(path, 'utf8'))?.[0]
  if (!suite) throw new Error(`${path}: expected a <testsuite>, found none`)
  const number = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(suite)?.[1] ?? 0)
  const failed = number('failures') + number('errors')
  const skipped = number('skipped') + number('disabled')
  return { passed: number('tests') - failed - skipped, failed, skipped }
}

/**
 * Reads what Vitest's JSON reporter wrote. A file that could not even be loaded has no tests of
 * its own and counts as one failure.
 * @returns {Counts}
 */
export function readVitest(path) {
  const report = JSON.parse(readFileSync(path, 'utf8'))
  const unloadable = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  ).length
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + unloadable,
    skipped: report.numPendingTests + report.numTodoTests,
  }
}

/**
 * Adds up counts and the runners' exit statuses: a runner that failed without naming a failed test
 * (a crash, an unhandled error, no tests at all) still counts as one failure.
 * @param {{ counts: Counts, status: number }[]} runs
 * @returns {Counts}
 */
export function sumRuns(runs) {
  const sum = { passed: 0, failed: 0, skipped: 0 }
  for (const { counts, status } of runs) {
    sum.passed += counts.passed
    sum.failed += counts.failed === 0 && status !== 0 ? 1 : counts.failed
    sum.skipped += counts.skipped
  }
  return sum
}

/** The last line of every test command. */
export const formatCounts = ({ passed, failed, skipped }) =>
  `${passed} passed, ${failed} failed, ${skipped} skipped`
