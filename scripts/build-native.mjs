#!/usr/bin/env node
// Builds the addon for this machine's CPU, or with --portable for every x86-64 (kernels are then
// picked at run time). Expects node_modules to be there: `npm ci`, or use `npm run build`.
import { printError } from '../third_party/lib/errors.mjs'
import { ADDON, buildAddon, cpuBuild } from './lib/native.mjs'
import { Progress } from './lib/progress.mjs'
import { buildThirdParty } from './lib/third-party.mjs'
import { checkTools } from './lib/toolchain.mjs'

const config = process.argv.includes('--portable') ? 'portable' : cpuBuild()

try {
  checkTools()
  const progress = new Progress(2)
  let llama
  await progress.step(`llama.cpp libraries (${config})`, async (step) => {
    llama = await buildThirdParty(config, step)
    return llama.built ? 'built' : 'up to date'
  })
  await progress.step(`addon (${config})`, async (step) =>
    (await buildAddon(config, llama, step)) ? 'built' : 'up to date',
  )
  console.log(ADDON)
} catch (error) {
  printError(error)
  process.exitCode = 1
}
