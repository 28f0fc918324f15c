/**
 * Characters of a pattern as they stand in JSON text, written the way that regular expressions and
 * GBNF share.
 */

/** First and last code point. */
export type CharRange = readonly [low: number, high: number]

/** Characters that JSON text can only hold as an escape, besides other control characters. */
const JSON_ESCAPES: ReadonlyMap<number, string> = new Map([
  [0x09, '\\\\t'],
  [0x0a, '\\\\n'],
  [0x0d, '\\\\r'],
  [0x22, '\\\\"'],
  [0x5c, '\\\\\\\\'],
])
const ALL: CharRange = [0, 0x10ffff]
/** What JSON text does not hold as it is: what needs an escape, and halves of surrogate pairs. */
const NOT_PLAIN: readonly CharRange[] = [
  [0x00, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0xd800, 0xdfff],
]
/** Operators of a pattern that are literals after a backslash. */
const OPERATORS = '$^.[]()|{}*+?'

/** The literal for a character of the string's value. */
export function literalOf(code: number): string {
  const escaped = JSON_ESCAPES.get(code)
  if (escaped !== undefined) return escaped
  if (code < 0x20) return `\\\\u${code.toString(16).padStart(4, '0')}`
  const char = String.fromCodePoint(code)
  return OPERATORS.includes(char) ? `\\${char}` : char
}

/** Ranges of the text between the brackets of a character class (or of one escape). */
export function parseClass(
  text: string,
): { ranges: CharRange[]; negated: boolean } | { problem: string } {
  const negated = text.startsWith('^')
  const ranges: CharRange[] = []
  let at = negated ? 1 : 0
  while (at < text.length) {
    const low = member(text, at)
    if ('problem' in low) return low
    at += low.length
    let high = low
    if (text[at] === '-' && at + 1 < text.length) {
      const last = member(text, at + 1)
      if ('problem' in last) return last
      if (last.code < low.code) return { problem: 'a range of characters ends before it begins' }
      high = last
      at += 1 + last.length
    }
    ranges.push([low.code, high.code])
  }
  return ranges.length === 0 ? { problem: 'no empty character class' } : { ranges, negated }
}

type Member = { code: number; length: number }

function member(text: string, at: number): Member | { problem: string } {
  if (text[at] !== '\\') {
    const code = text.codePointAt(at) as number
    return { code, length: code > 0xffff ? 2 : 1 }
  }
  const kind = text[at + 1] ?? ''
  const digits = { x: 2, u: 4, U: 8 }[kind]
  if (digits !== undefined) {
    const hex = text.slice(at + 2, at + 2 + digits)
    const code = /^[\da-f]+$/i.test(hex) ? Number.parseInt(hex, 16) : Number.NaN
    // Half of a surrogate pair is no character of JSON text.
    const valid = hex.length === digits && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff)
    return valid ? { code, length: 2 + digits } : { problem: `no \\${kind}${hex}` }
  }
  const plain = { t: 0x09, n: 0x0a, r: 0x0d }[kind]
  if (plain !== undefined) return { code: plain, length: 2 }
  if (kind !== '' && '\\"[]-'.includes(kind)) return { code: kind.charCodeAt(0), length: 2 }
  return { problem: `no \\${kind} in a character class` }
}

/**
 * A character class for JSON text. What needs an escape there becomes an alternative; a negated class
 * stands for what needs none, as do classes that take everything.
 */
export function writeClass(ranges: readonly CharRange[], negated = false): string {
  const plain = subtract(negated ? [ALL] : ranges, negated ? [...ranges, ...NOT_PLAIN] : NOT_PLAIN)
  const inClass = plain.length === 0 ? [] : [`[${plain.map(writeRange).join('')}]`]
  const takesAll = negated || ranges.some(([low, high]) => high - low > 0xffff)
  const escaped = takesAll
    ? []
    : [...JSON_ESCAPES].filter(([code]) => contains(ranges, code)).map(([, text]) => text)
  const all = [...inClass, ...escaped]
  return escaped.length === 0 ? (all[0] ?? '') : `(?:${all.join('|')})`
}

function contains(ranges: readonly CharRange[], code: number): boolean {
  return ranges.some(([low, high]) => low <= code && code <= high)
}

/** The parts of `ranges` that are in none of `gaps`. */
function subtract(ranges: readonly CharRange[], gaps: readonly CharRange[]): CharRange[] {
  let parts = [...ranges]
  for (const [from, to] of gaps) {
    parts = parts.flatMap(([low, high]) => {
      if (high < from || low > to) return [[low, high] as const]
      const left: CharRange[] = low < from ? [[low, from - 1]] : []
      const right: CharRange[] = high > to ? [[to + 1, high]] : []
      return [...left, ...right]
    })
  }
  return parts
}

function writeRange([low, high]: CharRange): string {
  return low === high ? writeMember(low) : `${writeMember(low)}-${writeMember(high)}`
}

function writeMember(code: number): string {
  const char = String.fromCodePoint(code)
  if (/[\da-z_ ]/i.test(char)) return char
  if (code > 0x7e && code !== 0x7f) return code > 0xffff ? bigEscape(code) : smallEscape(code)
  return `\\x${code.toString(16).toUpperCase().padStart(2, '0')}`
}

const smallEscape = (code: number) => `\\u${code.toString(16).toUpperCase().padStart(4, '0')}`
const bigEscape = (code: number) => `\\U${code.toString(16).toUpperCase().padStart(8, '0')}`
