import { z } from 'zod'
import { grammarDepth, MAX_GRAMMAR_DEPTH } from './grammar.js'
import { checkJsonSchema } from './json-schema.js'
import { strict } from './strict.js'

/** Longest output one request may ask for, tokens. */
export const MAX_TOKENS = 1 << 24
/** Longest budget, milliseconds (one day). */
export const MAX_BUDGET_MS = 86_400_000
/** Largest seed: the next number, 2^32-1, means "choose one" to llama.cpp and is never passed on. */
export const MAX_SEED = 0xffff_fffe
const MAX_STOPS = 16
const MAX_STOP_LENGTH = 256
const MAX_GRAMMAR_LENGTH = 65_536

const number = (low: number, high: number) => {
  const error = `a number from ${low} to ${high}`
  return z.number({ error }).min(low, { error }).max(high, { error })
}
const whole = (low: number, high: number) => {
  const error = `a whole number from ${low} to ${high}`
  return z.int({ error }).min(low, { error }).max(high, { error })
}

const stopString = z
  .string({ error: 'a string' })
  .min(1, { error: 'a non-empty string' })
  .max(MAX_STOP_LENGTH, { error: `a string of at most ${MAX_STOP_LENGTH} characters` })

const jsonSchema = z
  .record(z.string(), z.unknown(), { error: 'a JSON Schema object' })
  .transform((schema, context) => {
    const checked = checkJsonSchema(schema)
    if ('schema' in checked) return checked.schema
    context.issues.push({ code: 'custom', message: checked.expected, input: schema })
    return z.NEVER
  })

/**
 * How to generate. Every field is optional.
 *
 * - `cot` (false): ask the model to reason first, where its chat template can.
 * - `max_tokens` (rest of the context): output tokens, 1…16,777,216.
 * - `budget_ms` (none): wall-clock milliseconds from submission to finish; finish reason `budget`.
 * - `temperature` (0 = greedy, so that answers are repeatable unless asked otherwise), 0…5.
 * - `top_p` (0.95), `min_p` (0.05): 0…1; `top_k` (40; 0 = off). Without effect at temperature 0.
 * - `seed` (drawn at random and reported): 0…4,294,967,294.
 * - `stop`: up to 16 strings that end the answer; they are not part of it.
 * - `json_schema` or `grammar` (GBNF), not both: constrain the answer. A schema may be recursive
 *   through properties and items; refused are remote `$ref`, a `$ref` that leads back to itself under
 *   allOf or without members between, and a `pattern` that is not anchored with ^ and $ or uses more
 *   than groups, classes, alternatives and quantifiers (no lookaround, backreferences or \d), lengths
 *   above 2000. Not enforced: `multipleOf`, `uniqueItems`, `contains`, `not`, `if`, `dependent…`,
 *   numbers of properties, names of properties by pattern, bounds of `number`, and every `format` but
 *   `date`, `time`, `date-time` and `uuid`.
 */
export const preferences = strict({
  cot: z.boolean({ error: 'true or false' }).default(false),
  max_tokens: whole(1, MAX_TOKENS).optional(),
  budget_ms: number(1, MAX_BUDGET_MS).optional(),
  temperature: number(0, 5).default(0),
  top_p: number(0, 1).default(0.95),
  top_k: whole(0, 1_000_000).default(40),
  min_p: number(0, 1).default(0.05),
  seed: whole(0, MAX_SEED).optional(),
  stop: z
    .union([stopString.transform((text) => [text]), z.array(stopString)], {
      error: 'a non-empty string or an array of them',
    })
    .refine((stops) => stops.length <= MAX_STOPS, { error: `at most ${MAX_STOPS} stop strings` })
    .default([]),
  json_schema: jsonSchema.optional(),
  grammar: z
    .string({ error: 'a GBNF grammar' })
    .min(1, { error: 'a non-empty GBNF grammar' })
    .max(MAX_GRAMMAR_LENGTH, { error: `a grammar of at most ${MAX_GRAMMAR_LENGTH} characters` })
    .refine((text) => grammarDepth(text) <= MAX_GRAMMAR_DEPTH, {
      error: `a grammar of at most ${MAX_GRAMMAR_DEPTH} nested parentheses`,
    })
    .optional(),
}).refine((p) => p.json_schema === undefined || p.grammar === undefined, {
  error: 'at most one of json_schema and grammar',
})

/** What users write in `request.preferences`. */
export type Preferences = z.input<typeof preferences>
/** With every default filled in; `seed` is always set. Echoed by the `start` event. */
export type ResolvedPreferences = z.output<typeof preferences> & { seed: number }
