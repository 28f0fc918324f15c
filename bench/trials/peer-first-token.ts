/** node-llama-cpp: milliseconds to the first text of an answer to a text prompt, warm. */
import { loadPeerModel } from './node-llama-cpp.js'
import type { FirstTokenSpec } from './ours-first-token.js'
import { printResult, trialSpec } from './print.js'
import { chatMl, syntheticPrompt } from './prompts.js'

const spec = trialSpec<FirstTokenSpec & { folder: string }>()
const model = await loadPeerModel(spec.folder, spec.model, spec.threads)
const context = await model.createContext({
  contextSize: 1024,
  sequences: 1,
  threads: spec.threads,
})
const sequence = context.getSequence()

async function firstToken(index: number): Promise<number> {
  const started = performance.now()
  const prompt = model.tokenize(chatMl(syntheticPrompt(spec.promptWords, index + 1)), true)
  let first = Number.NaN
  let count = 0
  for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    if (Number.isNaN(first) && model.detokenize([token]) !== '') first = performance.now() - started
    if (++count === 4) break
  }
  await sequence.clearHistory()
  return first
}

await firstToken(0)
const ms: number[] = []
for (let index = 1; index <= spec.requests; index++) ms.push(await firstToken(index))
printResult({ ms })
process.exit(0)
