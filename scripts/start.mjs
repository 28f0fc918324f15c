#!/usr/bin/env node
// `npm start`: sets everything up and lets the embedded model read the chart of the README.
//   npm start -- --seed 3           adds options to that request
//   npm start -- chat --model x     runs another command of `mm` instead
import { join } from 'node:path'
import { printError } from '../third_party/lib/errors.mjs'
import { ROOT } from './lib/paths.mjs'
import { Progress } from './lib/progress.mjs'
import { runAttached } from './lib/run-attached.mjs'
import { SETUP_STEPS, setUp } from './lib/setup.mjs'

const MAIN_JOB = [
  'run',
  'Explain this plot and compute the slope.',
  '--image',
  join(ROOT, 'examples', 'plot.png'),
]

const extra = process.argv.slice(2)
const isCommand = extra.length > 0 && !extra[0].startsWith('-')

try {
  await setUp(new Progress(SETUP_STEPS))
  const args = isCommand ? extra : [...MAIN_JOB, ...extra]
  process.exitCode = await runAttached(process.execPath, [join(ROOT, 'dist/cli/main.js'), ...args])
} catch (error) {
  printError(error)
  process.exitCode = 1
}
