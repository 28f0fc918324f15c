/**
 * Ours with a KV cache of some length: prefill or decode at a depth, eight sequences with and
 * without a common prefix, bytes that a conversation takes.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Engine, type LoadOptions, load, type RunResult } from '../../lib/index.js'
import { textOfTokens } from './exact-text.js'
import { printResult, trialSpec } from './print.js'

export interface KvSpec {
  model: string
  threads: number
  kv: NonNullable<LoadOptions['kv']>
  task: 'decode' | 'prefill' | 'batch' | 'memory'
  /** Tokens in the cache before what is measured. */
  depth: number
  /** Tokens measured: produced by each sequence, or for `prefill` tokens of the prompt. */
  tokens: number
  /** `batch`: sequences at once. */
  parallel: number
  /** `batch`: all sequences start with the same `depth` tokens, which are in the prefix cache. */
  shared: boolean
  /** Tokens one request may use. */
  context: number
}

export interface KvAnswer {
  /** Bytes a token for `memory`, tokens per second for everything else. */
  value: number
  kv: { memory: string; dtype: string; kernels: string; bytes_per_token: number }
}

const SHORT = 'ab cd'
const POLL_MS = 2

/** Tokens the chat template puts around the text of one message. */
async function templateTokens(engine: Engine): Promise<number> {
  const { usage } = await ask(engine, SHORT, 1)
  return usage.input_tokens - (await engine.tokenize(SHORT)).length
}

function start(engine: Engine, text: string, maxTokens: number, system?: string) {
  const user = { role: 'user' as const, content: text }
  const messages =
    system === undefined ? [user] : [{ role: 'system' as const, content: system }, user]
  const preferences = { max_tokens: maxTokens, temperature: 0 }
  return engine.run({ messages, preferences })
}

async function ask(engine: Engine, text: string, maxTokens: number): Promise<RunResult> {
  return check(await start(engine, text, maxTokens), maxTokens)
}

/** Random weights may end an answer early: that would be a different amount of work. */
function check(result: RunResult, tokens: number): RunResult {
  const { usage, finish_reason } = result
  if (finish_reason !== 'length' || usage.output_tokens !== tokens) {
    throw new Error(`expected ${tokens} tokens, got ${usage.output_tokens} (${finish_reason})`)
  }
  return result
}

/** A prompt that takes exactly `tokens` tokens with the chat template around it. */
async function promptOf(engine: Engine, tokens: number, seed: number): Promise<string> {
  return textOfTokens(engine, Math.max(2, tokens - (await templateTokens(engine))), seed)
}

async function decode(engine: Engine, spec: KvSpec): Promise<number> {
  const text = await promptOf(engine, spec.depth, 1)
  const { timings } = await ask(engine, text, spec.tokens)
  return timings.tokens_per_second
}

async function prefill(engine: Engine, { depth, tokens }: KvSpec): Promise<number> {
  const text = await promptOf(engine, depth + tokens, 1)
  const before = engine.stats().prompt_tokens
  const evaluated = (): number => engine.stats().prompt_tokens - before
  const generation = start(engine, text, 1).result()
  if (depth === 0) {
    const { timings, usage } = check(await generation, 1)
    return (1000 * usage.input_tokens) / timings.prefill_ms
  }
  // Sleeps nearly all the time: the compute threads have both cores.
  while (evaluated() < depth) await sleep(POLL_MS)
  const [started, from] = [performance.now(), evaluated()]
  while (evaluated() < depth + tokens) await sleep(POLL_MS)
  const elapsed = performance.now() - started
  check(await generation, 1)
  if (from !== depth)
    throw new Error(`expected a step to end at ${depth} tokens, one did at ${from}`)
  return (1000 * tokens) / elapsed
}

async function batch(engine: Engine, spec: KvSpec): Promise<number> {
  const { depth, tokens, parallel, shared } = spec
  const system = shared ? await textOfTokens(engine, depth, 1) : undefined
  const texts = await Promise.all(
    Array.from({ length: parallel }, (_, index) =>
      shared ? textOfTokens(engine, 4, index + 2) : promptOf(engine, depth, index + 2),
    ),
  )
  // The first owner of the prefix; also takes the memory.
  if (system !== undefined) check(await start(engine, SHORT, 2, system), 2)
  const running = texts.map((text) => start(engine, text, tokens + STAGGER_TOKENS, system))
  const rate = await decodeRate(engine, running, parallel * tokens)
  for (const generation of running) {
    const { cached_tokens } = (await ended(generation)).usage
    if (shared && cached_tokens < depth) {
      throw new Error(`expected a cached prefix of ${depth} tokens, got ${cached_tokens}`)
    }
  }
  return rate
}

/** What the first sequence may be ahead: requests arrive one after the other. */
const STAGGER_TOKENS = 128

/** Tokens per second of all together, once each has its first one. */
async function decodeRate(
  engine: Engine,
  running: ReturnType<typeof start>[],
  tokens: number,
): Promise<number> {
  await Promise.all(running.map(firstText))
  const produced = (): number => engine.stats().output_tokens
  const [from, started] = [produced(), performance.now()]
  while (produced() < from + tokens) await sleep(POLL_MS)
  const [count, elapsed] = [produced() - from, performance.now() - started]
  const { running: left } = engine.stats().requests
  if (left !== running.length) {
    throw new Error(`expected ${running.length} sequences to the end, ${left} were left`)
  }
  for (const generation of running) generation.cancel()
  return (1000 * count) / elapsed
}

/** The result of a cancelled generation. */
async function ended(generation: ReturnType<typeof start>): Promise<{ usage: RunResult['usage'] }> {
  try {
    return await generation
  } catch (error) {
    const { usage } = generation.partial
    if (usage === undefined) throw error
    return { usage }
  }
}

/** Resolves with the first text; goes on reading, because leaving would cancel. */
function firstText(generation: ReturnType<typeof start>): Promise<void> {
  return new Promise((done, fail) => {
    const read = async () => {
      for await (const _ of generation) done()
    }
    // Once it has text, being cancelled is no failure.
    read().then(done, fail)
  })
}

/** Bytes of memory that a conversation makes the cache take, for each of its tokens. */
async function memory(engine: Engine, spec: KvSpec): Promise<number> {
  const generation = start(engine, await promptOf(engine, spec.depth, 1), spec.tokens)
  await firstText(generation)
  // The figure is taken while the answer grows, at most this long ago.
  await sleep(MEMORY_REPORT_MS)
  const { bytes_committed } = engine.stats().kv
  check(await generation, spec.tokens)
  return bytes_committed / (spec.depth + spec.tokens)
}

const MEMORY_REPORT_MS = 150

const TASKS = { decode, prefill, batch, memory }

const spec = trialSpec<KvSpec>()
await using engine = await load(spec.model, {
  threads: spec.threads,
  context_tokens: spec.context,
  kv: { prefix_cache: spec.shared, ...spec.kv },
  batch: { max_requests: spec.parallel },
})
const value = await TASKS[spec.task](engine, spec)
const answer: KvAnswer = { value, kv: engine.info().kv }
printResult(answer)
