/** Words that every synthetic vocabulary holds, from a seed: a new prompt for each request. */
export function syntheticPrompt(words: number, seed: number): string {
  let state = (seed * 2654435761 + 1) >>> 0
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state >>> 8
  }
  const letter = (): string => String.fromCharCode(97 + (next() % 26))
  return Array.from({ length: words }, () => letter() + letter()).join(' ')
}

/** A chat prompt as the synthetic models' ChatML template writes it. */
export function chatMl(content: string): string {
  return `<|im_start|>user\n${content}<|im_end|>\n<|im_start|>assistant\n`
}
