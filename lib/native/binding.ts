/**
 * The raw native binding: one declaration for each function that cpp/addon exports, with the same
 * names. JavaScript validates (zod, defaults, ranges); C++ receives complete arguments and checks
 * again only what would corrupt memory. Nothing outside lib/native and lib/engine.ts imports this.
 *
 * Every promise rejects with a plain `Error` that carries `code` (an MMError code) and `details`
 * (a JSON string); lib/native/call.ts turns it into an MMError with the caller's stack.
 */

/** Opaque flag shared with native threads. It exists before the work starts, so no stop is lost. */
export interface NativeCancelToken {
  cancel(): void
}

export interface NativeBuildInfo {
  /** Version of the package the addon was built from. */
  version: string
  /** Commit or tag of the provisioned llama.cpp. */
  llama: string
  compiler: string
  /** `native`: compiled for the building machine. `portable`: kernels chosen at run time. */
  cpu_build: 'native' | 'portable'
  /** Instruction sets that the loaded kernels use, e.g. ['AVX2', 'FMA', 'AVX512F']. */
  cpu_features: string[]
  sanitizer: 'none' | 'address' | 'thread'
}

export interface NativeLoadOptions {
  /** Path of the text model (GGUF). Already checked to exist. */
  model: string
  /** Path of the multimodal projector (GGUF), or ''. */
  mmproj: string
  /** Compute threads, ≥ 1. */
  threads: number
  /** Tokens one request may use (prompt + output); 0 = the model's training context, capped. */
  context_tokens: number
  /** Sequences that run at the same time, 1…256. */
  max_requests: number
  /** Tokens evaluated in one scheduler step, 32…8192. */
  tokens_per_step: number
  kv: {
    memory: 'auto' | 'paged' | 'stock'
    /** Element types of keys and values in pages. */
    k: 'auto' | 'bf16' | 'int8' | 'fp8'
    v: 'auto' | 'bf16' | 'int8' | 'fp8'
    /** Upper bound of the KV cache in bytes; 0 = chosen from the machine's memory. */
    budget_bytes: number
    prefix_cache: boolean
    /** Folder of the spill file, '' = none, and its largest size. */
    spill_dir: string
    spill_bytes: number
  }
  /** Bytes of encoder outputs kept for reuse. */
  media_cache_bytes: number
}

export interface NativeImage {
  kind: 'image'
  width: number
  height: number
  /** RGB, row-major, 3 × width × height bytes; copied before the call returns. */
  data: Uint8Array
  /** Hex SHA-256 of the pixels and their shape: key of the encoder-output cache. */
  digest: string
}

export interface NativeAudio {
  kind: 'audio'
  /** A whole WAV, MP3 or FLAC file; copied before the call returns. */
  data: Uint8Array
  digest: string
}

export type NativeMedia = NativeImage | NativeAudio

export interface NativeRequest {
  /** Unique among the engine's live requests, 1…2^31-1; chosen by JavaScript. */
  id: number
  /**
   * JSON array of messages: `{ role, content, tool_calls?, tool_call_id? }`, where content is an
   * array of `{ type: 'text', text }` and `{ type: 'media', index }` (index into `media`), and
   * tool_calls is `[{ id, tool, args }]`.
   */
  messages: string
  /** JSON array of `{ name, description, parameters }` (JSON Schema), or '' for none. */
  tools: string
  media: NativeMedia[]
  /** Lets the chat template switch on its reasoning mode. */
  cot: boolean
  /** 0 = greedy. */
  temperature: number
  top_p: number
  /** 0 = off. */
  top_k: number
  min_p: number
  /** Unsigned 32 bit. */
  seed: number
  /** GBNF grammar, or ''. */
  grammar: string
  /** JSON Schema as a string, or ''. At most one of grammar and json_schema is set. */
  json_schema: string
  stop: string[]
  /** Output tokens; 0 = until the context is full. */
  max_tokens: number
  /** Milliseconds from submit to finish; 0 = no limit. */
  budget_ms: number
}

export interface NativeUsage {
  input_tokens: number
  output_tokens: number
  cached_tokens: number
  media_tokens: { image: number; audio: number; video: number }
  draft_tokens: number
  accepted_tokens: number
}

export interface NativeTimings {
  queue_ms: number
  encode_ms: number
  prefill_ms: number
  ttft_ms: number
  decode_ms: number
  tokens_per_second: number
}

/** One delta batch per scheduler step reaches JavaScript: an array of these, in order. */
export type NativeEvent =
  | { id: number; type: 'start'; input_tokens: number }
  | { id: number; type: 'text'; text: string }
  | { id: number; type: 'reasoning'; text: string }
  /** `body` is the raw text between <tool_call> and </tool_call>. The sequence now waits for toolResult(). */
  | { id: number; type: 'tool_call'; call_id: string; body: string }
  /** Terminal. `unfinished` is the body of a tool call that was still open, or ''. */
  | {
      id: number
      type: 'finish'
      reason: 'stop' | 'length' | 'budget'
      usage: NativeUsage
      timings: NativeTimings
      unfinished: string
    }
  /** Terminal. Cancellation arrives here with code MM_CANCELLED. `details` is a JSON string. */
  | {
      id: number
      type: 'error'
      code: string
      message: string
      details: string
      usage: NativeUsage
      timings: NativeTimings
    }

export interface NativeEngine {
  /** JSON string: model description, sizes, limits, modalities, kv {memory, dtype, reason}. */
  info(): string
  /** JSON string in the shape of api.md's engine.stats(). Never waits for the engine thread. */
  stats(): string
  /** Never blocks. Throws MM_DISPOSED after dispose(). Everything later arrives as events. */
  submit(request: NativeRequest): void
  /** Ends a request at the next step; unknown ids are ignored. Answered by an error event. */
  cancel(id: number): void
  /**
   * Ends a waiting request the orderly way after a tool call nobody will answer: a `finish` event
   * with reason 'stop' follows. Unknown ids are ignored.
   */
  finish(id: number): void
  /** Answers the open tool call of request `id` with one line of JSON; generation goes on. */
  toolResult(id: number, callId: string, content: string): void
  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Promise<Int32Array>
  detokenize(ids: Int32Array): Promise<string>
  /** Log-probability of each token given those before it; NaN for the first. */
  score(
    text: string,
    cancel: NativeCancelToken,
  ): Promise<{ tokens: Int32Array; logprobs: Float32Array }>
  /** One vector of the model's embedding width, mean-pooled unless the model says otherwise, L2-normalized. */
  embed(text: string, cancel: NativeCancelToken): Promise<Float32Array>
  /** Writes what the KV cache holds of a request's prompt to a file; its `id` is not used. */
  savePrefix(request: NativeRequest, path: string): Promise<{ tokens: number; pages: number }>
  /** Brings it back into the prefix cache. */
  loadPrefix(path: string): Promise<{ tokens: number; pages: number }>
  /**
   * JSON string: `groups` of `page_bytes`, `pages_total` and `states`, a character for each page:
   * '.' free, 'u' used, 's' shared, 'c' held by the prefix cache alone. No groups without pages.
   */
  kvPages(): Promise<string>
  /** Ends every request with MM_DISPOSED, joins the threads, frees the model. Idempotent. */
  dispose(): Promise<void>
}

export interface NativeBinding {
  buildInfo(): NativeBuildInfo
  createCancelToken(): NativeCancelToken
  /** Reads and checks a GGUF header without loading weights. Resolves with a JSON string. */
  inspectGguf(path: string): Promise<string>
  /**
   * Validates, then loads. `onEvents` is called on the JS thread with one batch per step;
   * `onProgress` with fractions 0…1. Cancelling `cancel` rejects with MM_CANCELLED.
   */
  loadEngine(
    options: NativeLoadOptions,
    cancel: NativeCancelToken,
    onEvents: (events: NativeEvent[]) => void,
    onProgress: (fraction: number) => void,
  ): Promise<NativeEngine>
}
