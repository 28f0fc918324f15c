import { type CallSite, isMMErrorCode, MMError, type MMErrorDetails } from '../errors.js'

/** What native errors look like before they are turned into an {@link MMError}. */
interface RawNativeError {
  message?: unknown
  code?: unknown
  details?: unknown
}

/**
 * Turns whatever native code threw into an MMError. Codes that are not ours become `MM_INTERNAL`:
 * they would mean that C++ and this file disagree, which users should be able to report.
 */
export function fromNative(error: unknown): MMError {
  if (error instanceof MMError) return error
  const raw: RawNativeError =
    typeof error === 'object' && error !== null ? error : { message: error }
  return nativeFailure(
    raw.code,
    String(raw.message ?? 'unknown native failure'),
    raw.details,
    error,
  )
}

/** Builds the MMError for a code, a message and a JSON string of details. */
export function nativeFailure(
  code: unknown,
  message: string,
  details: unknown,
  cause?: unknown,
): MMError {
  const parsed = parseDetails(details)
  const options = cause === undefined ? undefined : { cause }
  if (isMMErrorCode(code)) return new MMError(code, message, parsed, options)
  return new MMError('MM_INTERNAL', message, { ...parsed, native_code: code }, options)
}

function parseDetails(details: unknown): MMErrorDetails {
  if (typeof details === 'object' && details !== null) return { ...details }
  if (typeof details !== 'string' || details === '') return {}
  try {
    const value: unknown = JSON.parse(details)
    if (typeof value === 'object' && value !== null) return value as MMErrorDetails
  } catch {
    // Not JSON: keep the text, losing it would hide the reason.
  }
  return { native_details: details }
}

/** Runs a native call that returns at once; failures carry the caller's stack. */
export function callSync<T>(site: CallSite, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw site.adopt(fromNative(error))
  }
}

/** Awaits a native promise; failures carry the caller's stack. */
export async function callAsync<T>(site: CallSite, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw site.adopt(fromNative(error))
  }
}
