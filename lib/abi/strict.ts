import { z } from 'zod'

/**
 * A strict zod object whose error for an unknown field names the field and the nearest known one:
 * a misspelt preference that is silently ignored costs users an afternoon.
 */
export function strict<Shape extends z.core.$ZodShape>(shape: Shape) {
  const known = Object.keys(shape)
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys' ? unknownFields(issue.keys as string[], known) : undefined,
  })
}

/** "unknown field "temprature"; did you mean "temperature"?" */
export function unknownFields(keys: string[], known: string[]): string {
  return keys.map((key) => unknownField(key, known)).join('; ')
}

function unknownField(key: string, known: string[]): string {
  const near = nearest(key, known)
  const help = near === undefined ? `known: ${known.join(', ')}` : `did you mean "${near}"?`
  return `unknown field "${key}" (${help})`
}

/** The known word closest to `word`, or undefined when none is close enough to be a typo. */
export function nearest(word: string, known: string[]): string | undefined {
  const normal = fold(word)
  let best: string | undefined
  let least = Math.max(2, Math.floor(normal.length / 3)) + 1
  for (const candidate of known) {
    const cost = distance(normal, fold(candidate), least)
    if (cost < least) {
      least = cost
      best = candidate
    }
  }
  return best
}

/** camelCase and kebab-case count as the same word as snake_case. */
function fold(word: string): string {
  return word.slice(0, 64).replace(/[-_]/g, '').toLowerCase()
}

/** Levenshtein distance, given up once it reaches `limit`. */
function distance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit
  let row = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return Math.min(row[b.length] ?? limit, limit)
}
