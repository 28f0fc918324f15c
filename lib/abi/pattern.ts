/**
 * Which regular expressions llama.cpp can turn into a grammar. It accepts "any string" in place of
 * one it cannot, so these are refused before.
 */

/** Longest `pattern`, characters. */
export const MAX_PATTERN_LENGTH = 512
/** Deepest nesting of groups in a `pattern`. */
export const MAX_PATTERN_DEPTH = 32
/** Most repetitions: above it llama.cpp refuses a lower bound and forgets an upper one. */
export const MAX_REPETITION = 2000

/** Escapes that mean the same in a regular expression and in GBNF. */
const ESCAPE = /\\(?:[trn\\"[\]-]|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8})/y
const ESCAPES = new RegExp(ESCAPE.source, 'g')
/** Escapes allowed outside character classes besides {@link ESCAPE}. */
const ESCAPED_OPERATOR = /\\[$^.[\]()|{}*+?]/y
const CLASS = /\[((?:[^\]\\]|\\.)*)\]/sy
const REPEAT = /\{(?:\d{1,4}|\d{0,4},\d{0,4})\}|[*+?]/y
const BOUNDS = /^\{(\d*),(\d*)\}$/

/** Says what is wrong with a pattern, undefined when llama.cpp follows it to the letter. */
export function patternProblem(pattern: string): string | undefined {
  if (pattern.length > MAX_PATTERN_LENGTH) {
    return `at most ${MAX_PATTERN_LENGTH} characters in a pattern`
  }
  if (!/^\^.*\$$/s.test(pattern)) return "a pattern begins with '^' and ends with '$'"
  return new PatternScan(pattern.slice(1, -1)).problem()
}

class PatternScan {
  #at = 0
  #depth = 0
  /** Something stands before the position that a quantifier can repeat. */
  #repeatable = false
  /** It is a character of several bytes: llama.cpp would repeat only the last one. */
  #wide = false

  constructor(private readonly text: string) {}

  problem(): string | undefined {
    while (this.#at < this.text.length) {
      const problem = this.#step(this.text[this.#at] as string)
      if (problem !== undefined) return problem
    }
    return this.#depth > 0 ? 'a group is not closed' : undefined
  }

  #step(char: string): string | undefined {
    const wide = this.#wide
    this.#wide = char > '\u007f'
    switch (char) {
      case '(':
        return this.#open()
      case ')':
        return this.#close()
      case '[':
        return this.#class()
      case '\\':
        return this.#escape()
      case '*':
      case '+':
      case '?':
      case '{':
        return wide
          ? 'a character outside ASCII in a group before it is repeated, as in (?:é)+'
          : this.#repeat()
      case '^':
      case '$':
        return 'no anchor inside a pattern'
      case ']':
      case '}':
        return `${char} needs a backslash`
      default:
        this.#at++
        this.#repeatable = char !== '|'
        return undefined
    }
  }

  #open(): string | undefined {
    this.#at++
    if (this.text[this.#at] === '?') {
      if (this.text[this.#at + 1] !== ':') return 'no lookaround, named group or flags'
      this.#at += 2
    }
    this.#repeatable = false
    if (++this.#depth <= MAX_PATTERN_DEPTH) return undefined
    return `at most ${MAX_PATTERN_DEPTH} nested groups`
  }

  #close(): string | undefined {
    this.#at++
    this.#repeatable = true
    return --this.#depth < 0 ? 'a group is closed that was not opened' : undefined
  }

  #class(): string | undefined {
    const found = this.#match(CLASS)
    if (found === undefined) return 'a character class is not closed'
    if (found === '[]' || found === '[^]') return 'no empty character class'
    this.#repeatable = true
    const rest = found.replace(ESCAPES, '')
    const at = rest.indexOf('\\')
    if (at >= 0) return `no ${rest.slice(at, at + 2)} in a character class`
    return undefined
  }

  #escape(): string | undefined {
    const next = this.text.slice(this.#at, this.#at + 2)
    if (/\\\d/.test(next)) return 'no backreference'
    if ((this.#match(ESCAPE) ?? this.#match(ESCAPED_OPERATOR)) === undefined) {
      return `no ${next}; write a character class such as [0-9]`
    }
    this.#repeatable = true
    return undefined
  }

  #repeat(): string | undefined {
    // A second quantifier would be a lazy or possessive one, which GBNF reads differently.
    if (!this.#repeatable)
      return 'a quantifier follows what it repeats, and is neither lazy nor doubled'
    const found = this.#match(REPEAT)
    if (found === undefined) return 'a repetition such as {2} or {1,3}'
    this.#repeatable = false
    return boundsProblem(found)
  }

  #match(expression: RegExp): string | undefined {
    expression.lastIndex = this.#at
    const found = expression.exec(this.text)?.[0]
    if (found !== undefined) this.#at += found.length
    return found
  }
}

/** llama.cpp would never come back from {3,2}. */
function boundsProblem(repeat: string): string | undefined {
  const [, low = '', high = ''] = BOUNDS.exec(repeat) ?? ['', repeat.slice(1, -1)]
  if (Number(low) > MAX_REPETITION || Number(high) > MAX_REPETITION) {
    return `at most ${MAX_REPETITION} repetitions`
  }
  return high !== '' && Number(low) > Number(high) ? `${repeat} ends before it begins` : undefined
}
