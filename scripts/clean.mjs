#!/usr/bin/env node
// Removes what was built in this clone. With --cache also what all clones share.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { cacheDir } from '../third_party/lib/cache.mjs'
import { ROOT } from './lib/paths.mjs'

const folders = ['build', 'dist', 'coverage', 'prebuilds'].map((name) => join(ROOT, name))
if (process.argv.includes('--cache')) folders.push(cacheDir())
for (const folder of folders) {
  await rm(folder, { recursive: true, force: true })
  console.log(`removed ${folder}`)
}
