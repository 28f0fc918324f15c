import type { z } from 'zod'
import { describe, MMError, type MMErrorCode, type MMErrorDetails } from '../errors.js'

/**
 * Checks `value` against `schema`; the first problem becomes an MMError that says where it is, what
 * was expected and what came.
 *
 * @param name what the value is called in messages, e.g. `request`.
 * @throws MMError `MM_INVALID_REQUEST` (or `code`).
 */
export function parse<S extends z.ZodType>(
  schema: S,
  value: unknown,
  name: string,
  code: MMErrorCode = 'MM_INVALID_REQUEST',
): z.output<S> {
  const result = schema.safeParse(value, { reportInput: true })
  if (result.success) return result.data
  const issue = deepest(result.error.issues[0] as z.core.$ZodIssue)
  throw issueToError(issue, value, name, code)
}

/** For a union, the branch that got furthest is the one the user meant. */
function deepest(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== 'invalid_union') return issue
  let best: z.core.$ZodIssue | undefined
  for (const branch of issue.errors) {
    const first = branch[0]
    if (first !== undefined && first.path.length > (best?.path.length ?? 0)) best = first
  }
  if (best === undefined) return issue
  const inner = deepest(best)
  return { ...inner, path: [...issue.path, ...inner.path] } as z.core.$ZodIssue
}

function issueToError(
  issue: z.core.$ZodIssue,
  value: unknown,
  name: string,
  code: MMErrorCode,
): MMError {
  const where = location(name, issue.path)
  const received = describe(at(value, issue.path))
  const details: MMErrorDetails = { where, expected: issue.message, received }
  const input = inputIndex(issue.path)
  if (input !== undefined) details.input = input
  if (issue.code === 'unrecognized_keys') {
    details.fields = issue.keys
    return new MMError(code, `${issue.message} in ${where}`, details)
  }
  return new MMError(
    code,
    `expected ${plain(issue.message)} for ${where}, received ${received}`,
    details,
  )
}

/** zod says "Invalid input: expected string, received number"; only the middle is wanted here. */
function plain(message: string): string {
  return message
    .replace(/^Invalid (input|option): /, '')
    .replace(/^expected /, '')
    .replace(/, received .*$/, '')
}

function location(name: string, path: PropertyKey[]): string {
  let text = ''
  for (const key of path) text += typeof key === 'number' ? `[${key}]` : `.${String(key)}`
  return text === '' ? name : text.startsWith('.') ? text.slice(1) : `${name}${text}`
}

function at(value: unknown, path: PropertyKey[]): unknown {
  let current = value
  for (const key of path) {
    if (typeof current !== 'object' || current === null) return undefined
    current = Reflect.get(current, key)
  }
  return current
}

function inputIndex(path: PropertyKey[]): number | undefined {
  return path[0] === 'inputs' && typeof path[1] === 'number' ? path[1] : undefined
}
