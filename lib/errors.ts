/**
 * Every failure a user sees is an MMError: a stable `code` to branch on, `details` for programs and a
 * message for people that says what was expected, where, and what came instead.
 */

/** Stable error codes. Adding one is a minor change; removing or renaming one is a major change. */
export const MM_ERROR_CODES = [
  'MM_INVALID_REQUEST',
  'MM_MODEL_INVALID',
  'MM_MODEL_NOT_FOUND',
  'MM_ABI_MISMATCH',
  'MM_MEDIA_INVALID',
  'MM_CONTEXT_OVERFLOW',
  'MM_OUT_OF_MEMORY',
  'MM_CANCELLED',
  'MM_TIMEOUT',
  'MM_TOOL_DENIED',
  'MM_TOOL_FAILED',
  'MM_ENGINE_UNAVAILABLE',
  'MM_DEVICE_LOST',
  'MM_DISPOSED',
  'MM_INTERNAL',
] as const

/** One of {@link MM_ERROR_CODES}. */
export type MMErrorCode = (typeof MM_ERROR_CODES)[number]

/** What a program may read from an error; which fields are set depends on the code. */
export interface MMErrorDetails {
  /** Path of the offending value, e.g. `preferences.top_p` or `inputs[1].path`. */
  where?: string
  /** What would have been accepted. */
  expected?: string
  /** A short description of what was received (never the whole value). */
  received?: string
  /** Index of the offending input among all parts of the request, counted from 0. */
  input?: number
  /** What the user can do about it. */
  hint?: string
  [key: string]: unknown
}

// Symbol.for is shared by every copy of the package in a process, so that isMMError recognises
// errors thrown by another version of us further down somebody's dependency tree.
const BRAND = Symbol.for('polymind-native.MMError')

/** An error of this package. Recognise it with {@link isMMError} rather than `instanceof`. */
export class MMError extends Error {
  override readonly name = 'MMError'
  /** Stable code; see {@link MMErrorCode}. */
  readonly code: MMErrorCode
  /** Facts for programs: which input, expected, received. */
  readonly details: MMErrorDetails
  /**
   * Set when a generation fails or is cancelled: what had been produced until then
   * (a `RunResult`; typed `unknown` here so that this file depends on nothing).
   */
  partial?: unknown

  constructor(
    code: MMErrorCode,
    message: string,
    details: MMErrorDetails = {},
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.code = code
    this.details = details
    Object.defineProperty(this, BRAND, { value: true })
  }
}

/** True for an `MMError` made by this or any other copy of the package. */
export function isMMError(value: unknown): value is MMError {
  return typeof value === 'object' && value !== null && Reflect.get(value, BRAND) === true
}

/** True when `value` is one of the codes above. */
export function isMMErrorCode(value: unknown): value is MMErrorCode {
  return typeof value === 'string' && (MM_ERROR_CODES as readonly string[]).includes(value)
}

/**
 * Describes a received value in a few words: its type and, when short, the value itself. Never
 * prints more than 60 characters, so that a message cannot carry a whole image or prompt.
 */
export function describe(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (value === null) return 'null'
  if (typeof value === 'string') return `the string ${clip(JSON.stringify(value))}`
  if (typeof value === 'number' || typeof value === 'bigint') return `the number ${String(value)}`
  if (typeof value === 'boolean') return String(value)
  if (typeof value === 'function') return `a function${value.name ? ` (${clip(value.name)})` : ''}`
  if (Array.isArray(value)) return `an array of length ${value.length}`
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`
  if (typeof value === 'object')
    return `an object (${clip(value.constructor?.name ?? 'no prototype')})`
  return `a ${typeof value}`
}

function clip(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 57)}…`
}

/** What {@link mismatch} needs to know. */
export interface Mismatch {
  expected: string
  where: string
  /** The offending value itself; described with {@link describe}. */
  received?: unknown
  /** Overrides the description of `received`. */
  actual?: string
  hint?: string
  input?: number
}

/** The one formatter of argument errors: "expected X for WHERE, received Y". */
export function mismatch(code: MMErrorCode, facts: Mismatch): MMError {
  const received = facts.actual ?? describe(facts.received)
  const hint = facts.hint === undefined ? '' : `. ${facts.hint}`
  const details: MMErrorDetails = { where: facts.where, expected: facts.expected, received }
  if (facts.input !== undefined) details.input = facts.input
  if (facts.hint !== undefined) details.hint = facts.hint
  return new MMError(
    code,
    `expected ${facts.expected} for ${facts.where}, received ${received}${hint}`,
    details,
  )
}

/** The error for something this build cannot do: says what, why, and what to do instead. */
export function unavailable(what: string, reason: string, hint?: string): MMError {
  const details: MMErrorDetails = { where: what, reason }
  if (hint !== undefined) details.hint = hint
  const tail = hint === undefined ? '' : `. ${hint}`
  return new MMError('MM_ENGINE_UNAVAILABLE', `${what} is not available: ${reason}${tail}`, details)
}

/**
 * The place in user code that called us, remembered before the work starts: by the time native code
 * fails, the JS stack is gone. Only captured here; formatted when an error really needs it.
 */
export class CallSite {
  readonly #holder: { stack?: string } = {}

  /** @param entry the public function that was called; its own frame is left out. */
  constructor(entry: (...args: never[]) => unknown) {
    Error.captureStackTrace(this.#holder, entry)
  }

  /** Gives `error` the caller's stack and returns it. Foreign errors keep their own stack. */
  adopt<E>(error: E): E {
    if (!isMMError(error)) return error
    const frames = this.#holder.stack?.split('\n').slice(1).join('\n') ?? ''
    if (frames !== '') error.stack = `${error.name} [${error.code}]: ${error.message}\n${frames}`
    return error
  }
}
