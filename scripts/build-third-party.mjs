#!/usr/bin/env node
// Builds llama.cpp's libraries into the cache: build-third-party.mjs [--json] [native|portable|…]
import { printError, SetupError } from '../third_party/lib/errors.mjs'
import { Progress } from './lib/progress.mjs'
import { buildThirdParty, CONFIG_NAMES } from './lib/third-party.mjs'

const args = process.argv.slice(2)
const config = args.find((arg) => !arg.startsWith('-')) ?? 'native'

try {
  if (!CONFIG_NAMES.includes(config)) {
    throw new SetupError(
      'COMMAND_FAILED',
      `expected one of ${CONFIG_NAMES.join(', ')}, got ${config}`,
    )
  }
  let result
  await new Progress(1).step(`llama.cpp libraries (${config})`, async (step) => {
    result = await buildThirdParty(config, step)
    return result.built ? 'built' : 'up to date'
  })
  if (args.includes('--json')) console.log(JSON.stringify(result))
} catch (error) {
  printError(error)
  process.exitCode = 1
}
