/**
 * Ours: milliseconds from run() to the first text of an answer, warm. Prints { ms }: one number for
 * each request, every request with a prompt or image of its own.
 */
import { readFileSync } from 'node:fs'
import { load } from '../../lib/index.js'
import { printResult, trialSpec } from './print.js'
import { syntheticPrompt } from './prompts.js'

export interface FirstTokenSpec {
  /** '' for the embedded default. */
  model: string
  threads: number
  requests: number
  promptWords: number
  /** PNG files, one for each request and one to warm up; none for text. */
  images: string[]
  question: string
}

const spec = trialSpec<FirstTokenSpec>()
const options = { threads: spec.threads, context_tokens: 1024, batch: { max_requests: 1 } }
await using engine = await load(spec.model === '' ? undefined : spec.model, options)

function inputs(index: number) {
  const path = spec.images[index]
  if (path === undefined) {
    return [{ type: 'text' as const, text: syntheticPrompt(spec.promptWords, index + 1) }]
  }
  return [
    { type: 'text' as const, text: spec.question },
    { type: 'image' as const, data: readFileSync(path) },
  ]
}

async function firstToken(index: number): Promise<number> {
  const parts = inputs(index)
  const started = performance.now()
  let first = Number.NaN
  for await (const _ of engine.run({ inputs: parts, preferences: { max_tokens: 4 } })) {
    if (Number.isNaN(first)) first = performance.now() - started
  }
  return first
}

await firstToken(0)
const ms: number[] = []
for (let index = 1; index <= spec.requests; index++) ms.push(await firstToken(index))
printResult({ ms })
