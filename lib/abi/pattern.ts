/**
 * Regular expressions of JSON Schema, made ready for llama.cpp's converter: it takes "any string" for
 * one it cannot follow, repeats a whole run of literals where only the last is meant, and does not
 * know that the text of a JSON string has escapes. The first are refused here; the others are written
 * so that it does the right thing.
 */
import { type CharRange, literalOf, parseClass, writeClass } from './pattern-class.js'

/** Longest `pattern`, characters. */
export const MAX_PATTERN_LENGTH = 512
/** Deepest nesting of groups in a `pattern`. */
export const MAX_PATTERN_DEPTH = 32
/** Most repetitions: above it llama.cpp refuses a lower bound and forgets an upper one. */
export const MAX_REPETITION = 2000

/** Escapes of one character. */
const ESCAPE = /\\(?:[trn\\"[\]-]|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8})/y
/** Escapes allowed outside character classes besides {@link ESCAPE}. */
const ESCAPED_OPERATOR = /\\[$^.[\]()|{}*+?]/y
const CLASS = /\[((?:[^\]\\]|\\.)*)\]/sy
const REPEAT = /\{(?:\d{1,4}|\d{0,4},\d{0,4})\}|[*+?]/y
const BOUNDS = /^\{(\d*),(\d*)\}$/

/** What `.` stands for: every character that a JSON string holds without an escape. */
const ANY: CharRange[] = [[0x20, 0x10ffff]]

/** The pattern as llama.cpp gets it, or what is wrong with it. */
export type CompiledPattern = { pattern: string } | { problem: string }

/** Checks a pattern and rewrites it; the strings it stands for stay the same. */
export function compilePattern(pattern: string): CompiledPattern {
  if (pattern.length > MAX_PATTERN_LENGTH) {
    return { problem: `at most ${MAX_PATTERN_LENGTH} characters in a pattern` }
  }
  if (!/^\^.*\$$/s.test(pattern)) return { problem: "a pattern begins with '^' and ends with '$'" }
  const scan = new PatternScan(pattern.slice(1, -1))
  const problem = scan.run()
  return problem === undefined ? { pattern: `^${scan.written()}$` } : { problem }
}

class PatternScan {
  #at = 0
  #depth = 0
  /** Something stands before the position that a quantifier can repeat. */
  #repeatable = false
  readonly #out: string[] = []

  constructor(private readonly text: string) {}

  written(): string {
    return this.#out.join('')
  }

  /** Says what is wrong; undefined when all is well. */
  run(): string | undefined {
    while (this.#at < this.text.length) {
      const problem = this.#step(this.text[this.#at] as string)
      if (problem !== undefined) return problem
    }
    return this.#depth > 0 ? 'a group is not closed' : undefined
  }

  #step(char: string): string | undefined {
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
        return this.#repeat()
      case '^':
      case '$':
        return 'no anchor inside a pattern'
      case ']':
      case '}':
        return `${char} needs a backslash`
      case '.':
        return this.#item(writeClass(ANY), 1)
      case '|':
        this.#item(char, 1)
        this.#repeatable = false
        return undefined
      default: {
        const code = this.text.codePointAt(this.#at) as number
        return this.#literal(literalOf(code), code > 0xffff ? 2 : 1)
      }
    }
  }

  #item(written: string, length: number): undefined {
    this.#out.push(written)
    this.#at += length
    this.#repeatable = true
  }

  /** In a group of its own when it is repeated: llama.cpp would repeat what stands before it, too. */
  #literal(written: string, length: number): undefined {
    const next = this.text[this.#at + length] ?? ''
    this.#item('*+?{'.includes(next) && next !== '' ? `(?:${written})` : written, length)
  }

  #open(): string | undefined {
    const isPlain = this.text[this.#at + 1] !== '?'
    if (!isPlain && this.text[this.#at + 2] !== ':') return 'no lookaround, named group or flags'
    this.#item('(?:', isPlain ? 1 : 3)
    this.#repeatable = false
    if (++this.#depth <= MAX_PATTERN_DEPTH) return undefined
    return `at most ${MAX_PATTERN_DEPTH} nested groups`
  }

  #close(): string | undefined {
    this.#item(')', 1)
    return --this.#depth < 0 ? 'a group is closed that was not opened' : undefined
  }

  #class(): string | undefined {
    const found = this.#match(CLASS)
    if (found === undefined) return 'a character class is not closed'
    const parsed = parseClass(found.slice(1, -1))
    if ('problem' in parsed) return parsed.problem
    const written = writeClass(parsed.ranges, parsed.negated)
    return written === '' ? 'no empty character class' : this.#item(written, found.length)
  }

  #escape(): string | undefined {
    const next = this.text.slice(this.#at, this.#at + 2)
    if (/\\\d/.test(next)) return 'no backreference'
    const operator = this.#match(ESCAPED_OPERATOR)
    if (operator !== undefined) return this.#literal(operator, operator.length)
    const found = this.#match(ESCAPE)
    if (found === undefined) return `no ${next}; write a character class such as [0-9]`
    const parsed = parseClass(found)
    if ('problem' in parsed) return parsed.problem
    return this.#literal(literalOf(parsed.ranges[0]?.[0] ?? 0), found.length)
  }

  #repeat(): string | undefined {
    // A second quantifier would be a lazy or possessive one, which GBNF reads differently.
    if (!this.#repeatable)
      return 'a quantifier follows what it repeats, and is neither lazy nor doubled'
    const found = this.#match(REPEAT)
    if (found === undefined) return 'a repetition such as {2} or {1,3}'
    this.#item(found, found.length)
    this.#repeatable = false
    return boundsProblem(found)
  }

  #match(expression: RegExp): string | undefined {
    expression.lastIndex = this.#at
    return expression.exec(this.text)?.[0]
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
