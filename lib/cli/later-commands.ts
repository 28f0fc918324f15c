import type { Command } from 'commander'
import { unavailable } from '../errors.js'
import { addCommonOptions } from './request-options.js'

/** Commands of the contract that this build does not have, and what they wait for. */
const LATER = [
  ['serve', 'an HTTP server', 'it arrives with the server'],
  ['assemble', 'build a bundle from modules', 'it arrives with assembly graphs and bundles'],
  ['verify', 'check a bundle', 'it arrives with assembly graphs and bundles'],
  ['quantize', 'write a smaller model', 'it arrives with the quantizer'],
] as const

/** Registers them, so that they fail with a reason instead of "unknown command". */
export function addLaterCommands(program: Command): void {
  for (const [name, description, reason] of LATER) {
    const command = program
      .command(name)
      .description(`${description} (not in this build)`)
      .argument('[args...]')
      .allowUnknownOption()
    addCommonOptions(command).action(() => {
      throw unavailable(`mm ${name}`, reason)
    })
  }
}
