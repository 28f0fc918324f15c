import { describe, expect, it } from 'vitest'
import { grammarDepth } from '../../lib/abi/grammar.js'
import { compilePattern } from '../../lib/abi/pattern.js'
import { parseRequest } from '../../lib/abi/request.js'
import { isMMError } from '../../lib/errors.js'

type Schema = Record<string, unknown>
const ref = (name: string) => ({ $ref: `#/$defs/${name}` })
const inputs = [{ type: 'text' as const, text: 'hi' }]

function send(preferences: Schema): Schema {
  return parseRequest({ inputs, preferences } as never).preferences as unknown as Schema
}

function refusal(preferences: Schema): string {
  try {
    send(preferences)
  } catch (error) {
    if (isMMError(error) && error.code === 'MM_INVALID_REQUEST') return error.message
    throw error
  }
  throw new Error('expected MM_INVALID_REQUEST, nothing was thrown')
}

/** a1 merges a2 twice, a2 merges a3 twice, … */
function doubling(levels: number): Schema {
  const $defs: Schema = { [`a${levels}`]: { properties: { x: { type: 'null' } } } }
  for (let i = 0; i < levels; i++) {
    const next = { allOf: [ref(`a${i + 1}`)] }
    $defs[`a${i}`] = { properties: { x: next, y: next } }
  }
  return { allOf: [ref('a0')], $defs }
}

function chain(length: number): Schema {
  const $defs: Schema = {}
  for (let i = 0; i < length; i++) $defs[`a${i}`] = ref(`a${i + 1}`)
  $defs[`a${length}`] = { type: 'null' }
  return { ...ref('a0'), $defs }
}

function nested(levels: number): Schema {
  return levels === 0 ? {} : { items: nested(levels - 1) }
}

function shared(levels: number): Schema {
  const below = levels === 0 ? {} : shared(levels - 1)
  return { a: below, b: below }
}

const list = (length: number) => Array.from({ length }, (_, i) => i)

const BAD: [string, Schema, RegExp][] = [
  ['itself', { ...ref('a'), $defs: { a: ref('a') } }, /back to itself/],
  ['itself under allOf', { allOf: [ref('a')], $defs: { a: ref('a') } }, /back to itself/],
  [
    'itself under anyOf inside allOf',
    { allOf: [{ anyOf: [ref('a')] }], $defs: { a: ref('a') } },
    /back to itself/,
  ],
  [
    'the way round oneOf',
    { ...ref('a'), $defs: { a: { oneOf: [ref('b')] }, b: ref('a') } },
    /itself/,
  ],
  [
    'a circle that is reached through a property of itself',
    {
      ...ref('a'),
      $defs: { a: { anyOf: [ref('b')], properties: { x: ref('b') } }, b: ref('a') },
    },
    /back to itself/,
  ],
  [
    'itself through properties, but only by allOf',
    { allOf: [ref('a')], $defs: { a: { properties: { x: { allOf: [ref('a')] } } } } },
    /allOf leads back/,
  ],
  ['another document', { $ref: 'https://example.com/schema' }, /begins with '#\/'/],
  ['a file', { items: { $ref: 'other.json#/a' } }, /begins with '#\/'/],
  ['nothing there', { $ref: '#/$defs/missing' }, /missing/],
  ['no schema', { $ref: '#/type', type: 'object' }, /names/],
  ['inherited things', { $ref: '#/constructor' }, /names/],
  ['a number', { $ref: 5 }, /begins with/],
  ['a long chain', chain(100), /at most 64 deep/],
  ['deep nesting', nested(100), /at most 64 deep/],
  ['doubling', doubling(20), /10000 schemas/],
  ['objects shared until they are millions', shared(30), /65536 characters/],
  ['many alternatives', { enum: list(1025) }, /1024 entries in each enum/],
  [
    'many properties',
    { properties: Object.fromEntries(list(257).map((i) => [`p${i}`, {}])) },
    /256 properties/,
  ],
  ['a bigint', { const: 5n }, /JSON can hold/],
  ['lookahead', { type: 'string', pattern: '^(?=a)a$' }, /lookaround/],
  ['a minimum above its maximum', { minLength: 3, maxLength: 2 }, /minLength is at most/],
  ['items that cannot be', { items: { minItems: 1, maxItems: 0 } }, /minItems is at most/],
  ['a length that would be forgotten', { maxLength: 2001 }, /maxLength is .* 0 to 2000/],
  ['half an item', { minItems: 0.5 }, /minItems is a whole number/],
  ['a negative length', { minLength: -1 }, /minLength is a whole number/],
  ['no whole number left', { type: 'integer', minimum: 1.2, maximum: 1.8 }, /between the bounds/],
  [
    'nothing between exclusive bounds',
    { type: ['null', 'integer'], exclusiveMinimum: 4, exclusiveMaximum: 5 },
    /between the bounds/,
  ],
  ['a bound beyond 64 bits', { type: 'integer', maximum: 1e300 }, /maximum is a number below/],
  ['a long pattern', { pattern: `^${'a'.repeat(600)}$` }, /512 characters/],
]

const GOOD: [string, Schema][] = [
  ['a list', { ...ref('n'), $defs: { n: { properties: { next: ref('n') }, required: ['next'] } } }],
  [
    'a tree',
    {
      type: 'object',
      properties: { children: { type: 'array', items: { $ref: '#/$defs/t' } } },
      $defs: { t: { anyOf: [{ type: 'null' }, { properties: { kids: { items: ref('t') } } }] } },
    },
  ],
  ['allOf of a list', { allOf: [ref('n')], $defs: { n: { properties: { next: ref('n') } } } }],
  [
    'allOf on the way round, once guarded',
    {
      allOf: [ref('a')],
      $defs: { a: { properties: { x: ref('b') } }, b: { allOf: [ref('a')] } },
    },
  ],
  ['the same $ref twice', { items: [ref('a'), ref('a')], $defs: { a: { type: 'null' } } }],
  ['a property called $ref and pattern', { properties: { $ref: {}, pattern: {} } }],
  ['a pattern', { type: 'string', pattern: '^[A-Z]{2}-[0-9]{1,4}(?:\\.x|y)?$' }],
  ['lengths', { items: { minLength: 0, maxLength: 2000 }, minItems: 3, maxItems: 3 }],
  ['one whole number', { type: 'integer', minimum: 4.5, exclusiveMaximum: 6 }],
  ['bounds of other numbers', { type: 'number', minimum: 2, maximum: 1e300 }],
  ['a short chain', chain(20)],
  ['some doubling', doubling(5)],
]

describe('preferences.json_schema', () => {
  it.each(BAD)('refuses a schema that has %s', (_, json_schema, message) => {
    expect(refusal({ json_schema })).toMatch(message)
  })

  it.each(GOOD)('accepts %s', (_, json_schema) => {
    expect(send({ json_schema }).json_schema).toEqual(json_schema)
  })

  it('sends what it checked, whatever toJSON() says later', () => {
    let asked = 0
    const json_schema = { toJSON: () => (++asked === 1 ? { type: 'null' } : { $ref: '#/nowhere' }) }
    expect(JSON.stringify(send({ json_schema }).json_schema)).toBe('{"type":"null"}')
    expect(asked).toBe(1)
  })
})

describe('compilePattern', () => {
  it.each([
    ['^a$', '^a$'],
    ['^(a|b)+$', '^(?:a|b)+$'],
    ['^(?:x)?[a-z_0-9]{2}b{,3}c{1,}$', '^(?:x)?[a-z_0-9]{2}(?:b){,3}(?:c){1,}$'],
    // Repeated alone, and not with what stands before it.
    ['^ab\\.?c$', '^ab(?:\\.)?c$'],
    ['^aé+😀{2}$', '^a(?:é)+(?:😀){2}$'],
    ['^\\(\\x41\\u00e9\\)$', '^\\(Aé\\)$'],
    // As the text of a JSON string has it.
    ['^"\\\\\\n\\x01$', '^\\\\"\\\\\\\\\\\\n\\\\u0001$'],
    ['^"?$', '^(?:\\\\")?$'],
    ['^[^"\\\\]*$', '^[ -\\x21\\x23-\\x5B\\x5D-\\uD7FF\\uE000-\\U0010FFFF]*$'],
    ['^[^\\x00-Zé]$', '^[\\x5B\\x5D-\\u00E8\\u00EA-\\uD7FF\\uE000-\\U0010FFFF]$'],
    ['^["a]$', '^(?:[a]|\\\\")$'],
    ['^["]$', '^(?:\\\\")$'],
    ['^[ -~]+$', '^(?:[ -\\x21\\x23-\\x5B\\x5D-\\x7E]|\\\\"|\\\\\\\\)+$'],
    ['^[\\t\\n]$', '^(?:\\\\t|\\\\n)$'],
    ['^[a\\]\\-é-ü-]$', '^[a\\x5D\\x2D\\u00E9-\\u00FC\\x2D]$'],
    ['^.$', '^[ -\\x21\\x23-\\x5B\\x5D-\\uD7FF\\uE000-\\U0010FFFF]$'],
  ])('writes %s as %s', (pattern, written) => {
    expect(compilePattern(pattern)).toEqual({ pattern: written })
  })

  it.each([
    ['a', /begins with/],
    ['^a\\$', /no \\/],
    ['^(?!a)b$', /lookaround/],
    ['^(?<=a)b$', /lookaround/],
    ['^(?<n>a)$', /named/],
    ['^(a)\\1$', /backreference/],
    ['^\\d+$', /no \\d/],
    ['^\\T$', /no \\T/],
    ['^[\\d]$', /no \\d in a character class/],
    ['^[\\x41\\w]$', /no \\w in a character class/],
    ['^a^b$', /anchor/],
    ['^a+?$', /lazy/],
    ['^*$', /quantifier/],
    ['^a{x}$', /repetition/],
    ['^a{3,2}$', /ends before it begins/],
    ['^a{2001}$', /at most 2000/],
    ['^a{1,2001}$', /at most 2000/],
    ['^[z-a]$', /range of characters/],
    ['^[\\ud800]$', /no \\ud800/],
    ['^[\\x4]$', /no \\x4/],
    ['^(a$', /not closed/],
    ['^a)$', /not opened/],
    ['^[a$', /not closed/],
    ['^[]$', /empty/],
    ['^[^]$', /empty/],
    ['^[\\x01]$', /empty/],
    ['^[^\\x00-\\U0010FFFF]$', /empty/],
    ['^a]$', /backslash/],
    [`^${'('.repeat(40)}a${')'.repeat(40)}$`, /nested groups/],
  ])('refuses %s', (pattern, problem) => {
    expect(compilePattern(pattern)).toEqual({ problem: expect.stringMatching(problem) })
  })
})

describe('preferences.grammar', () => {
  const nest = (levels: number) => `root ::= ${'('.repeat(levels)}"a"${')'.repeat(levels)}`

  it('is limited to 100 nested parentheses', () => {
    expect(send({ grammar: nest(100) }).grammar).toBe(nest(100))
    expect(refusal({ grammar: nest(101) })).toMatch(/100 nested parentheses/)
    expect(refusal({ grammar: nest(32_000) })).toMatch(/100 nested parentheses/)
    expect(refusal({ grammar: `root ::= ${'('.repeat(200)}` })).toMatch(/100 nested/)
  })

  it('does not count literals, character classes and comments', () => {
    const many = '('.repeat(200)
    expect(grammarDepth(`root ::= "${many}\\"${many}" [${many}\\]${many}] # ${many}\n ("a")`)).toBe(
      1,
    )
    expect(grammarDepth('a ::= ("x") ("y")')).toBe(1)
    expect(grammarDepth('a ::= )))(("x"))')).toBe(2)
  })
})
