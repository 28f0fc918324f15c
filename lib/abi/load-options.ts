import { z } from 'zod'
import { MMError, unavailable } from '../errors.js'
import { parse } from './parse.js'
import { strict } from './strict.js'

const whole = (low: number, high: number) => {
  const error = `a whole number from ${low} to ${high}`
  return z.int({ error }).min(low, { error }).max(high, { error })
}
const choice = <const T extends readonly string[]>(values: T) =>
  z.enum(values, { error: `one of ${values.map((value) => `'${value}'`).join(', ')}` })

const kvDtype = choice(['auto', 'fp8', 'int8', 'bf16'])

const kv = strict({
  memory: choice(['auto', 'paged', 'stock']).default('auto'),
  dtype: z
    .union([kvDtype, strict({ k: kvDtype, v: kvDtype })], {
      error: "'auto', 'fp8', 'int8', 'bf16' or { k, v } of them",
    })
    .default('auto'),
  budget_bytes: whole(1 << 20, Number.MAX_SAFE_INTEGER).optional(),
  prefix_cache: z.boolean({ error: 'true or false' }).default(true),
  spill: strict({ dir: z.string(), bytes: whole(1, Number.MAX_SAFE_INTEGER) }).optional(),
})

const batch = strict({
  max_requests: whole(1, 256).default(8),
  tokens_per_step: whole(32, 8192).default(512),
}).refine((b) => b.tokens_per_step >= 2 * b.max_requests, {
  // Each running request takes a token of every step; prompts need what is left.
  error: 'at least 2 × batch.max_requests tokens',
  path: ['tokens_per_step'],
})

const speculative = strict({
  kind: choice(['off', 'auto', 'draft', 'lookup', 'mtp']).default('auto'),
  max_tokens: whole(1, 64).optional(),
})

/**
 * How to load. Every field is optional.
 *
 * - `gpu` ('auto'): 'require' throws when no GPU backend is there; false never uses one.
 * - `threads` (1 for a model file below 64 MiB; else the physical cores this process may use, at most
 *   8): compute threads. `engine.info().threads` says how many there are.
 * - `context_tokens` (the model's training context, capped by memory): prompt plus output of one request.
 * - `kv`: the KV cache. `memory` ('auto': pages where the model allows it, else llama.cpp's own
 *   memory, and `engine.info().kv` says why; 'paged' throws instead; 'stock'), `dtype` ('auto':
 *   int8; 'bf16', 'int8', 'fp8' or `{ k, v }` of them; pages only), `budget_bytes` (a quarter of the
 *   machine's memory; pages take it as they are used), `prefix_cache` (true), `spill`.
 * - `batch`: `max_requests` (8) run at once, `tokens_per_step` (512) evaluated in one
 *   scheduler step, at least 2 × `max_requests`.
 * - `media_cache_bytes` (64 MiB): encoder outputs kept for reuse. An addition to the contract.
 * - `speculative`: `kind` ('auto'), `max_tokens`.
 * - `isolation` ('in-process').
 * - `on_progress(fraction)`: called on the JS thread with 0…1 while weights are read.
 * - `signal`: aborts loading.
 */
export const loadOptionsSchema = strict({
  gpu: z
    .union([choice(['auto', 'require']), z.literal(false)], { error: "'auto', 'require' or false" })
    .default('auto'),
  threads: whole(1, 512).optional(),
  context_tokens: whole(16, 1 << 24).optional(),
  kv: kv.prefault({}),
  batch: batch.prefault({}),
  media_cache_bytes: whole(0, Number.MAX_SAFE_INTEGER).default(64 * 1024 * 1024),
  speculative: speculative.prefault({}),
  isolation: choice(['in-process', 'process']).default('in-process'),
  on_progress: z
    .custom<(fraction: number) => void>((value) => typeof value === 'function', {
      error: 'a function',
    })
    .optional(),
  signal: z.custom<AbortSignal>(isAbortSignal, { error: 'an AbortSignal' }).optional(),
})

/** Options of {@link load}. */
export type LoadOptions = z.input<typeof loadOptionsSchema>
export type ResolvedLoadOptions = z.output<typeof loadOptionsSchema>

/** Duck-typed, so that signals of other realms and polyfills are accepted. */
export function isAbortSignal(value: unknown): value is AbortSignal {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof Reflect.get(value, 'aborted') === 'boolean' &&
    typeof Reflect.get(value, 'addEventListener') === 'function'
  )
}

/**
 * Checks the options and fills in defaults.
 *
 * @throws MMError `MM_INVALID_REQUEST`, or `MM_ENGINE_UNAVAILABLE` for what this build cannot do:
 * nothing asked for by name is silently replaced by something else.
 */
export function parseLoadOptions(value: unknown): ResolvedLoadOptions {
  const options = parse(loadOptionsSchema, value ?? {}, 'options')
  refuse(options)
  return options
}

function refuse(options: z.output<typeof loadOptionsSchema>): void {
  for (const [wanted, what, reason] of refusals(options)) {
    if (wanted) throw unavailable(what, reason)
  }
}

type Refusal = [wanted: boolean, what: string, reason: string]

function refusals(options: z.output<typeof loadOptionsSchema>): Refusal[] {
  const { speculative: spec } = options
  return [
    [options.gpu === 'require', "gpu: 'require'", 'this build has no GPU backend'],
    [
      spec.kind !== 'off' && spec.kind !== 'auto',
      `speculative.kind: '${spec.kind}'`,
      'speculative decoding is not part of this build yet',
    ],
    [
      options.isolation === 'process',
      "isolation: 'process'",
      'the separate engine process is not part of this build yet; engines run inside this process',
    ],
  ]
}

/** `signal.reason`, or an MMError for signals aborted without one. */
export function abortReason(signal: AbortSignal): unknown {
  return signal.reason ?? new MMError('MM_CANCELLED', 'the operation was cancelled by its signal')
}
