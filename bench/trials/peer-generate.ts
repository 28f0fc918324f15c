/** node-llama-cpp: the same measurement as ours-generate.ts. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { loadPeerModel, type Model, type Sequence } from './node-llama-cpp.js'
import type { GenerateSpec } from './ours-generate.js'
import { printResult, trialSpec } from './print.js'
import { chatMl, syntheticPrompt } from './prompts.js'

const spec = trialSpec<GenerateSpec & { folder: string }>()

async function generate(model: Model, sequence: Sequence, tokens: number, seed: number) {
  const prompt = model.tokenize(chatMl(syntheticPrompt(spec.promptWords, seed)), true)
  let first = 0
  let count = 0
  let text = ''
  const answer = sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })
  for await (const token of answer) {
    first ||= performance.now()
    // Ours hands out text; a user of tokens has to do this too.
    text += model.detokenize([token])
    if (++count === tokens) break
  }
  const last = performance.now()
  if (count !== tokens || text === '') throw new Error(`expected ${tokens} tokens, got ${count}`)
  await sequence.clearHistory()
  return { first, last, tokens: count }
}

const model = await loadPeerModel(spec.folder, spec.model, spec.threads)
const context = await model.createContext({
  contextSize: 1024,
  sequences: spec.parallel,
  threads: spec.threads,
})
const sequences = Array.from({ length: spec.parallel }, () => context.getSequence())
await generate(model, sequences[0] as Sequence, 4, 0)
const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
const timelines = await Promise.all(
  sequences.map((sequence, index) => generate(model, sequence, spec.tokens, index + 1)),
)
delay.disable()
const tokens = timelines.reduce((sum, timeline) => sum + timeline.tokens - 1, 0)
const start = Math.min(...timelines.map((timeline) => timeline.first))
const end = Math.max(...timelines.map((timeline) => timeline.last))
printResult({
  tokens_per_second: (tokens / (end - start)) * 1000,
  output_tokens: tokens,
  event_loop_p99_ms: delay.percentile(99) / 1e6,
})
process.exit(0)
