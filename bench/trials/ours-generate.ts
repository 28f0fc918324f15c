/**
 * Ours: tokens per second of one or several generations that run at once, first token to last.
 * Prints { tokens_per_second, output_tokens, event_loop_p99_ms }.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { type Engine, load } from '../../lib/index.js'
import { printResult, trialSpec } from './print.js'
import { syntheticPrompt } from './prompts.js'

export interface GenerateSpec {
  model: string
  threads: number
  /** Generations at once. */
  parallel: number
  /** Tokens each of them produces. */
  tokens: number
  promptWords: number
}

interface Timeline {
  first: number
  last: number
  tokens: number
}

async function generate(engine: Engine, spec: GenerateSpec, seed: number): Promise<Timeline> {
  const generation = engine.run({
    inputs: [{ type: 'text', text: syntheticPrompt(spec.promptWords, seed) }],
    preferences: { max_tokens: spec.tokens, temperature: 0 },
  })
  let first = 0
  for await (const _ of generation) first ||= performance.now()
  const last = performance.now()
  const { usage, finish_reason } = await generation
  // Random weights may end an answer early: that would be a different amount of work.
  if (finish_reason !== 'length' || usage.output_tokens !== spec.tokens) {
    throw new Error(`expected ${spec.tokens} tokens, got ${usage.output_tokens} (${finish_reason})`)
  }
  return { first, last, tokens: usage.output_tokens }
}

const spec = trialSpec<GenerateSpec>()
await using engine = await load(spec.model, {
  threads: spec.threads,
  context_tokens: 1024,
  batch: { max_requests: spec.parallel },
})
await generate(engine, { ...spec, tokens: 4 }, 0)
const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
const runs = Array.from({ length: spec.parallel }, (_, index) => generate(engine, spec, index + 1))
const timelines = await Promise.all(runs)
delay.disable()
// The first token of each belongs to its prompt.
const tokens = timelines.reduce((sum, timeline) => sum + timeline.tokens - 1, 0)
const start = Math.min(...timelines.map((timeline) => timeline.first))
const end = Math.max(...timelines.map((timeline) => timeline.last))
printResult({
  tokens_per_second: (tokens / (end - start)) * 1000,
  output_tokens: tokens,
  event_loop_p99_ms: delay.percentile(99) / 1e6,
})
