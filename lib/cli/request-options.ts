import { type Command, InvalidArgumentError } from 'commander'
import type { LoadOptions } from '../abi/load-options.js'
import type { Part } from '../abi/parts.js'
import type { Preferences } from '../abi/preferences.js'
import type { LoadSource } from '../load.js'
import { builtinTools } from '../tools/builtin.js'
import type { Tools } from '../tools/tool.js'
import { type CommonOptions, UsageError } from './output.js'

/** Options of commands that load a model. */
export interface ModelOptions extends CommonOptions {
  model?: string
  mmproj?: string
  threads?: number
  contextTokens?: number
}

/** Options of commands that ask a model. */
export interface RequestOptions extends ModelOptions {
  image: string[]
  audio: string[]
  temperature?: number
  topP?: number
  topK?: number
  minP?: number
  maxTokens?: number
  seed?: number
  budgetMs?: number
  stop: string[]
  grammar?: string
  cot?: boolean
  system?: string
  /** false: --no-tools; a list of names otherwise. */
  tools?: string[] | boolean
}

const numeric = (text: string): number => {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('not a number')
  return value
}
const collect = (value: string, all: string[]): string[] => [...all, value]
const names = (text: string): string[] =>
  text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')

export function addCommonOptions(command: Command): Command {
  return command
    .option('--json', 'print one JSON document on stdout')
    .option('--verbose', 'print stacks of errors')
}

export function addModelOptions(command: Command): Command {
  return addCommonOptions(command)
    .option('--model <file>', 'a GGUF model (default: the embedded P-Nano)')
    .option('--mmproj <file>', 'its multimodal projector')
    .option('--threads <n>', 'compute threads (default: by size of the model)', numeric)
    .option('--context-tokens <n>', 'tokens one request may use', numeric)
}

export function addRequestOptions(command: Command): Command {
  return addModelOptions(command)
    .option('--image <file>', 'an image; may be repeated', collect, [])
    .option('--audio <file>', 'a sound file; may be repeated', collect, [])
    .option('--temperature <t>', '0 = greedy (default 0)', numeric)
    .option('--top-p <p>', 'nucleus sampling (default 0.95)', numeric)
    .option('--top-k <k>', 'top-k sampling (default 40, 0 = off)', numeric)
    .option('--min-p <p>', 'min-p sampling (default 0.05)', numeric)
    .option('--max-tokens <n>', 'longest answer, tokens', numeric)
    .option('--seed <n>', 'seed of sampling (default: random)', numeric)
    .option('--budget-ms <ms>', 'longest time, milliseconds', numeric)
    .option('--stop <text>', 'ends the answer; may be repeated', collect, [])
    .option('--grammar <gbnf>', 'a GBNF grammar the answer must follow')
    .option('--cot', 'ask the model to reason first')
    .option('--system <text>', 'system message')
    .option('--tools <names>', 'tools the model may call, comma-separated', names)
    .option('--no-tools', 'allow no tools')
}

/** What load() takes. */
export function sourceOf(options: ModelOptions): LoadSource | undefined {
  if (options.model !== undefined) {
    return options.mmproj === undefined
      ? options.model
      : { model: options.model, mmproj: options.mmproj }
  }
  if (options.mmproj === undefined) return undefined
  throw new UsageError('--mmproj needs --model: a projector belongs to one model')
}

export function loadOptionsOf(options: ModelOptions): LoadOptions {
  return defined({ threads: options.threads, context_tokens: options.contextTokens })
}

export function preferencesOf(options: RequestOptions): Preferences {
  return defined({
    temperature: options.temperature,
    top_p: options.topP,
    top_k: options.topK,
    min_p: options.minP,
    max_tokens: options.maxTokens,
    seed: options.seed,
    budget_ms: options.budgetMs,
    grammar: options.grammar,
    cot: options.cot,
    stop: options.stop.length === 0 ? undefined : options.stop,
  })
}

/** The functions for the tools the user allows; all built-in ones unless told otherwise. */
export function toolsOf(options: RequestOptions): Tools {
  const known: Tools = { ...builtinTools }
  if (options.tools === false) return {}
  if (!Array.isArray(options.tools)) return known
  const chosen: Tools = {}
  for (const name of options.tools) {
    const tool = known[name]
    if (tool === undefined) {
      throw new UsageError(`unknown tool ${name}; built in are ${Object.keys(known).join(', ')}`)
    }
    chosen[name] = tool
  }
  return chosen
}

/** The parts of a question: its text, then its media. */
export function partsOf(text: string, options: RequestOptions): Part[] {
  return [
    ...(text === '' ? [] : [{ type: 'text' as const, text }]),
    ...options.image.map((path) => ({ type: 'image' as const, path })),
    ...options.audio.map((path) => ({ type: 'audio' as const, path })),
  ]
}

function defined<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const kept = Object.entries(values).filter(([, value]) => value !== undefined)
  return Object.fromEntries(kept) as { [K in keyof T]?: Exclude<T[K], undefined> }
}
