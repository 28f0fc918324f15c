/** Deepest nesting of parentheses in a GBNF grammar: llama.cpp's parser recurses once for each. */
export const MAX_GRAMMAR_DEPTH = 100

// A literal, a character class, a comment (all of which may hold parentheses), or a parenthesis.
const TOKEN = /"(?:[^"\\]|\\.)*"?|\[(?:[^\]\\]|\\.)*\]?|#[^\r\n]*|[()]/gs

/** Nesting depth of the parentheses outside literals, character classes and comments. */
export function grammarDepth(grammar: string): number {
  let depth = 0
  let deepest = 0
  for (const [token] of grammar.matchAll(TOKEN)) {
    if (token === '(') deepest = Math.max(deepest, ++depth)
    else if (token === ')' && depth > 0) depth--
  }
  return deepest
}
