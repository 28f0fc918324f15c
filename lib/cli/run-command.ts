import type { Command } from 'commander'
import type { Message, RunRequest } from '../abi/request.js'
import { Output, UsageError } from './output.js'
import { printEvents } from './print-events.js'
import {
  addRequestOptions,
  partsOf,
  preferencesOf,
  type RequestOptions,
  toolsOf,
} from './request-options.js'
import { withEngine, withInterrupt } from './with-engine.js'

/** Registers `mm run`. */
export function addRunCommand(program: Command): void {
  const command = program
    .command('run')
    .description('answer one question about text, images or sound')
    .argument('[text...]', 'the question; read from stdin when it is piped and no text is given')
  addRequestOptions(command).action(runCommand)
}

async function runCommand(words: string[], options: RequestOptions): Promise<void> {
  const output = new Output(options)
  const request = requestOf(await questionOf(words), options)
  const tools = toolsOf(options)
  await withInterrupt((signal) =>
    withEngine(
      options,
      output,
      async (engine) => {
        const generation = engine.run(request, { signal, tools })
        if (options.json !== true) return printEvents(generation, output)
        const { text, reasoning, tool_calls, finish_reason, usage, timings, model, seed } =
          await generation.result()
        const reasoned = reasoning === undefined ? {} : { reasoning }
        const rest = { tool_calls, finish_reason, usage, timings, model, seed }
        output.document({ text, ...reasoned, ...rest })
      },
      // One question: room for others would only cost memory.
      { signal, batch: { max_requests: 1 } },
    ),
  )
}

function requestOf(text: string, options: RequestOptions): RunRequest {
  const parts = partsOf(text, options)
  if (parts.length === 0) {
    throw new UsageError('nothing to answer: give a text, --image, --audio or pipe a text in')
  }
  const preferences = preferencesOf(options)
  if (options.system === undefined) return { inputs: parts, preferences }
  const messages: Message[] = [
    { role: 'system', content: options.system },
    { role: 'user', content: parts },
  ]
  return { messages, preferences }
}

async function questionOf(words: string[]): Promise<string> {
  if (words.length > 0) return words.join(' ')
  if (process.stdin.isTTY === true) return ''
  return (await readStdin()).trim()
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
