import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { formatCounts, readCtest, readVitest, sumRuns } from './counts.mjs'

const folder = mkdtempSync(join(tmpdir(), 'polymind-counts-'))
afterAll(() => rmSync(folder, { recursive: true }))

function file(name, text) {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

describe('counts of the test runners', () => {
  it('reads the report of ctest', () => {
    const xml =
      '<?xml version="1.0"?>\n<testsuite name="(empty)"\n\ttests="10"\n\tfailures="2"\n\tdisabled="1"\n\tskipped="3">'
    expect(readCtest(file('a.xml', xml))).toEqual({ passed: 4, failed: 2, skipped: 4 })
    expect(() => readCtest(file('b.xml', '<nothing/>'))).toThrow(/testsuite/)
  })

  it('counts a file that Vitest could not load as a failure', () => {
    const report = {
      numPassedTests: 5,
      numFailedTests: 1,
      numPendingTests: 2,
      numTodoTests: 1,
      testResults: [
        { status: 'failed', assertionResults: [] },
        { status: 'failed', assertionResults: [{}] },
        { status: 'passed', assertionResults: [{}] },
      ],
    }
    const counts = readVitest(file('c.json', JSON.stringify(report)))
    expect(counts).toEqual({ passed: 5, failed: 2, skipped: 3 })
  })

  it('never loses a runner that failed without naming a test', () => {
    const none = { passed: 0, failed: 0, skipped: 0 }
    const sum = sumRuns([
      { counts: { passed: 3, failed: 0, skipped: 1 }, status: 0 },
      { counts: none, status: 139 },
      { counts: { passed: 1, failed: 2, skipped: 0 }, status: 1 },
    ])
    expect(sum).toEqual({ passed: 4, failed: 3, skipped: 1 })
    expect(formatCounts(sum)).toBe('4 passed, 3 failed, 1 skipped')
  })
})
