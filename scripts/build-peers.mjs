#!/usr/bin/env node
// Builds llama.cpp's own programs into the cache: build-peers.mjs [--json] [NAME…]
// --json prints one line: { bin: folder, programs: { name: path } }.
import { printError, SetupError } from '../third_party/lib/errors.mjs'
import { buildPeers, locatePeers, PEER_NAMES } from './lib/peers.mjs'
import { Progress } from './lib/progress.mjs'
import { checkTools } from './lib/toolchain.mjs'

const args = process.argv.slice(2)
const names = args.filter((arg) => !arg.startsWith('-'))

try {
  const unknown = names.find((name) => !PEER_NAMES.includes(name))
  if (unknown) {
    throw new SetupError(
      'COMMAND_FAILED',
      `expected one of ${PEER_NAMES.join(', ')}, got ${unknown}`,
    )
  }
  checkTools()
  let programs
  await new Progress(1).step('llama.cpp programs (stock)', async (step) => {
    programs = await buildPeers(names.length > 0 ? names : PEER_NAMES, step)
  })
  if (args.includes('--json')) console.log(JSON.stringify({ bin: locatePeers().bin, programs }))
  else for (const path of Object.values(programs)) console.log(path)
} catch (error) {
  printError(error)
  process.exitCode = 1
}
