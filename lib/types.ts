/** What a generation reports. Field names are those of the wire: snake_case. */
import type { ResolvedPreferences } from './abi/preferences.js'
import type { NativeTimings, NativeUsage } from './native/binding.js'
import type { ToolFailure } from './tools/execute.js'

/** Token counts. `input_tokens` includes media and whatever a cache served. */
export type Usage = NativeUsage

/**
 * Durations, milliseconds; `tokens_per_second` counts decoded tokens. `ttft_ms` runs from run() on
 * (decoding of media files included, loading of the engine not) to the first token.
 */
export type Timings = NativeTimings

/**
 * Why a generation ended: `stop` (end token or stop string), `length` (max_tokens or the context is
 * full), `tool_calls` (the model wants a tool nobody here runs), `budget` (budget_ms), `cancelled`,
 * `content_filter` (never set by this engine), `error`.
 */
export type FinishReason =
  | 'stop'
  | 'length'
  | 'tool_calls'
  | 'budget'
  | 'cancelled'
  | 'content_filter'
  | 'error'

/** A tool call of the model. `invalid` is set when it could not be understood; `raw` is its text. */
export interface ToolCall {
  id: string
  tool: string
  args: Record<string, unknown>
  invalid?: string
  raw?: string
}

/** A tool call and what came of it; `ok` is missing when nobody answered. */
export interface ToolCallRecord extends ToolCall {
  ok?: boolean
  result?: unknown
  error?: ToolFailure
  /** Milliseconds from the call to its answer. */
  elapsed_ms?: number
}

/** One thing that happened, in order. */
export type RunEvent =
  | { type: 'start'; id: string; preferences: ResolvedPreferences; seed: number; model: string }
  | { type: 'text-delta'; text: string }
  | { type: 'reasoning-delta'; text: string }
  | { type: 'tool-call'; call: ToolCall }
  | {
      type: 'tool-result'
      call_id: string
      ok: boolean
      result?: unknown
      error?: ToolFailure
      elapsed_ms: number
    }
  | { type: 'image' | 'audio' | 'video'; data: Uint8Array; media_type: string }
  | { type: 'finish'; reason: FinishReason; usage: Usage; timings: Timings }

/** One output of a finished generation. */
export type RunOutput = { type: 'text'; text: string }

/** The whole answer. */
export interface RunResult {
  /** All text of the answer, without reasoning and tool calls. */
  text: string
  /** Text of the model's reasoning, when it reasoned. */
  reasoning?: string
  tool_calls: ToolCallRecord[]
  outputs: RunOutput[]
  finish_reason: FinishReason
  usage: Usage
  timings: Timings
  /** Name of the model, '' when no engine was reached. */
  model: string
  seed: number
}

/** A result that may still grow; `finish_reason` is absent until the generation is over. */
export type PartialResult = Omit<RunResult, 'finish_reason'> & { finish_reason?: FinishReason }

export const NO_USAGE: Usage = {
  input_tokens: 0,
  output_tokens: 0,
  cached_tokens: 0,
  media_tokens: { image: 0, audio: 0, video: 0 },
  draft_tokens: 0,
  accepted_tokens: 0,
}

export const NO_TIMINGS: Timings = {
  queue_ms: 0,
  encode_ms: 0,
  prefill_ms: 0,
  ttft_ms: 0,
  decode_ms: 0,
  tokens_per_second: 0,
}
