#!/usr/bin/env node
// `npm run build`: everything that a fresh clone needs, step by step.
import { printError } from '../third_party/lib/errors.mjs'
import { Progress } from './lib/progress.mjs'
import { SETUP_STEPS, setUp } from './lib/setup.mjs'

try {
  await setUp(new Progress(SETUP_STEPS))
} catch (error) {
  printError(error)
  process.exitCode = 1
}
