import type { Engine } from '../../lib/index.js'
import { syntheticPrompt } from './prompts.js'

/** Text that the engine's tokenizer turns into exactly `tokens` tokens; another one for each seed. */
export async function textOfTokens(engine: Engine, tokens: number, seed: number): Promise<string> {
  const words = syntheticPrompt(tokens, seed).split(' ')
  const first = (count: number): string => words.slice(0, count).join(' ')
  const length = async (text: string): Promise<number> => (await engine.tokenize(text)).length
  let [low, high] = [0, words.length]
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if ((await length(first(middle))) <= tokens) low = middle
    else high = middle - 1
  }
  // A word may be two tokens; a point is one, and synthetic vocabularies join it with nothing.
  const text = first(low) + '.'.repeat(tokens - (await length(first(low))))
  const got = await length(text)
  if (got !== tokens) throw new Error(`expected a text of ${tokens} tokens, made one of ${got}`)
  return text
}
