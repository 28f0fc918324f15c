import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createInterface, type Interface } from 'node:readline'
import type { Command } from 'commander'
import type { Part } from '../abi/parts.js'
import type { Engine } from '../engine.js'
import type { Generation } from '../generation.js'
import { ChatHistory } from './chat-history.js'
import { Output } from './output.js'
import { printEvents } from './print-events.js'
import {
  addRequestOptions,
  partsOf,
  preferencesOf,
  type RequestOptions,
  toolsOf,
} from './request-options.js'
import { withEngine } from './with-engine.js'

interface ChatOptions extends RequestOptions {
  history?: string
}

const HELP = `/image FILE  adds an image to the next message
/audio FILE  adds a sound file to the next message
/reset       forgets the conversation
/help        shows this
/quit        leaves (also Ctrl-D)`

/** Registers `mm chat`. */
export function addChatCommand(program: Command): void {
  const command = program.command('chat').description('talk with the model over several turns')
  addRequestOptions(command)
    .option('--history <file>', 'keeps the lines you typed')
    .action(async (options: ChatOptions) => {
      const output = new Output(options)
      await withEngine(options, output, (engine) => new Chat(engine, options, output).run(), {
        batch: { max_requests: 1 },
      })
    })
}

class Chat {
  readonly #history: ChatHistory
  readonly #lines: Interface
  #pending: Part[]
  #running: Generation | undefined
  #interrupted = false

  constructor(
    private readonly engine: Engine,
    private readonly options: ChatOptions,
    private readonly output: Output,
  ) {
    this.#history = new ChatHistory(options.system)
    this.#pending = partsOf('', options)
    this.#lines = createInterface({
      input: process.stdin,
      ...(options.json === true ? {} : { output: process.stderr }),
      terminal: process.stdin.isTTY === true && process.stderr.isTTY === true,
      history: readHistory(options.history),
      prompt: '> ',
    })
  }

  async run(): Promise<void> {
    this.#lines.on('SIGINT', () => this.#onInterrupt())
    if (this.#isTerminal()) this.output.note('Ctrl-C stops an answer, /help lists commands')
    if (this.#isTerminal()) this.#lines.prompt()
    for await (const line of this.#lines) {
      this.#interrupted = false
      if (!(await this.#onLine(line.trim()))) break
      if (this.#isTerminal()) this.#lines.prompt()
    }
    this.#lines.close()
    saveHistory(this.options.history, this.#lines)
    if (this.options.json === true) this.output.document({ messages: this.#history.messages })
  }

  #isTerminal(): boolean {
    return process.stdin.isTTY === true && this.options.json !== true
  }

  /** Ctrl-C: cancels a running answer; at the prompt, twice in a row leaves. */
  #onInterrupt(): void {
    if (this.#running !== undefined) {
      this.#running.cancel()
      return
    }
    if (this.#interrupted) {
      this.#lines.close()
      return
    }
    this.#interrupted = true
    this.output.note('(Ctrl-C again or Ctrl-D leaves)')
    this.#lines.prompt()
  }

  /** False to leave. */
  async #onLine(line: string): Promise<boolean> {
    if (line === '') return true
    if (line.startsWith('/')) return this.#onCommand(line)
    await this.#answer(line)
    return true
  }

  #onCommand(line: string): boolean {
    const [name = '', ...rest] = line.split(' ')
    const argument = rest.join(' ').trim()
    if (name === '/quit' || name === '/exit') return false
    if (name === '/reset') {
      this.#history.reset()
      this.#pending = []
      this.output.note('(conversation forgotten)')
    } else if ((name === '/image' || name === '/audio') && argument !== '') {
      this.#pending.push({ type: name === '/image' ? 'image' : 'audio', path: argument })
      this.output.note(`(${argument} goes with the next message)`)
    } else {
      this.output.note(HELP)
    }
    return true
  }

  async #answer(text: string): Promise<void> {
    const before = this.#history.messages.length
    this.#history.user([...this.#pending, { type: 'text', text }])
    const generation = this.engine.run(
      { messages: this.#history.messages, preferences: preferencesOf(this.options) },
      { tools: toolsOf(this.options) },
    )
    this.#running = generation
    try {
      const shown =
        this.options.json === true ? generation.result() : printEvents(generation, this.output)
      await Promise.all([shown, this.#record(generation)])
      this.#pending = []
    } catch (error) {
      this.#onFailure(error, before)
    } finally {
      this.#running = undefined
    }
  }

  async #record(generation: Generation): Promise<void> {
    for await (const event of generation.events()) this.#history.record(event)
  }

  /** A cancelled answer stays in the conversation as far as it came; a failed one does not. */
  #onFailure(error: unknown, before: number): void {
    if ((error as { code?: unknown }).code === 'MM_CANCELLED') {
      this.#pending = []
      this.output.note('(stopped)')
      return
    }
    this.#history.truncate(before)
    this.output.failure(error)
  }
}

function readHistory(file: string | undefined): string[] {
  if (file === undefined || !existsSync(file)) return []
  return readFileSync(file, 'utf8').split('\n').filter(Boolean).reverse()
}

function saveHistory(file: string | undefined, lines: Interface): void {
  if (file === undefined) return
  // readline keeps it newest first; typed lines may be private, so only the owner may read them.
  const { history = [] } = lines as Interface & { history?: string[] }
  writeFileSync(file, `${[...history].reverse().join('\n')}\n`, { mode: 0o600 })
}
