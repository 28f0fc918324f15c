#!/usr/bin/env node
import { Command, CommanderError } from 'commander'
import { packageVersion } from '../package-root.js'
import { addBenchCommand } from './bench-command.js'
import { addChatCommand } from './chat-command.js'
import { addDoctorCommand } from './doctor-command.js'
import { addEvalCommand } from './eval-command.js'
import { addInspectCommand } from './inspect-command.js'
import { addLaterCommands } from './later-commands.js'
import { Output } from './output.js'
import { addRunCommand } from './run-command.js'

function createProgram(): Command {
  const program = new Command('mm')
    .description('multimodal language models on this machine')
    .version(packageVersion())
    .showHelpAfterError('(mm --help, mm COMMAND --help)')
    .exitOverride()
  addRunCommand(program)
  addChatCommand(program)
  addInspectCommand(program)
  addDoctorCommand(program)
  addEvalCommand(program)
  addBenchCommand(program)
  addLaterCommands(program)
  inheritExitOverride(program)
  return program
}

/** Subcommands made before exitOverride() was called on their parent keep their own behaviour. */
function inheritExitOverride(command: Command): void {
  for (const child of command.commands) {
    child.exitOverride()
    child.showHelpAfterError(`(mm ${child.name()} --help)`)
    inheritExitOverride(child)
  }
}

/** Runs one command line and returns its exit code: 0 done, 1 the work failed, 2 wrong usage. */
async function main(argv: string[]): Promise<number> {
  // `mm run … | head` closes our stdout: that is an end, not a failure worth a stack.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0)
    throw error
  })
  try {
    await createProgram().parseAsync(argv)
    return Number(process.exitCode ?? 0)
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    const json = argv.includes('--json')
    return new Output({ json, verbose: argv.includes('--verbose') }).failure(error)
  }
}

process.exitCode = await main(process.argv)
