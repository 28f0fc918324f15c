import { z } from 'zod'
import { abortReason, isAbortSignal } from './abi/load-options.js'
import { parse } from './abi/parse.js'
import { MAX_TEXT_LENGTH } from './abi/parts.js'
import type { RunRequest } from './abi/request.js'
import { conversationPrompt } from './conversation.js'
import { CallSite, MMError, unavailable } from './errors.js'
import { type Generation, type GenerationOptions, startGeneration } from './generation.js'
import type {
  NativeBinding,
  NativeCancelToken,
  NativeEngine,
  NativeEvent,
  NativeLoadOptions,
} from './native/binding.js'
import { callAsync, callSync, fromNative } from './native/call.js'
import type { EngineLink } from './session.js'
import type { Tools } from './tools/tool.js'
import { NO_TIMINGS, NO_USAGE } from './types.js'

/** What an engine is; more fields may join. */
export interface EngineInfo {
  model: {
    /** `general.name` of the file, or ''. */
    name: string
    architecture: string
    /** llama.cpp's description: size and quantization. */
    description: string
    parameters: number
    /** Size of the weights, bytes. */
    bytes: number
    context_trained: number
    vocabulary: number
    embedding_width: number
    chat_template: boolean
  }
  /** What it understands: `text`, `image`, `audio`. */
  modalities: string[]
  /** Tokens one request may use, prompt and output together. */
  context_tokens: number
  max_requests: number
  tokens_per_step: number
  /** Compute threads. */
  threads: number
  kv: {
    /** `paged`, or `stock`: llama.cpp's own memory. */
    memory: string
    /** Element type, `keys/values` where they differ. */
    dtype: string
    /** Which attention kernels read the pages; '' without pages. */
    kernels: string
    bytes_per_token: number
    /** Most bytes it may take. */
    bytes: number
    /** Why it is this memory. */
    reason: string
  }
  gpu: unknown
}

/** Counters since loading, and the state of this moment. */
export interface EngineStats {
  requests: {
    running: number
    waiting: number
    finished: number
    cancelled: number
    failed: number
  }
  kv: {
    /** Tokens in a page; 1 with llama.cpp's own memory, which has none. */
    page_tokens: number
    pages_total: number
    pages_used: number
    pages_shared: number
    /** Held for prompts that begin the same, by nobody else. */
    pages_cached: number
    /** In use. */
    bytes: number
    /** Taken from the system so far. */
    bytes_committed: number
    waste_fraction: number
    evictions: number
    spilled_pages: number
    /** Requests that gave up their pages to others and were computed again. */
    preemptions: number
  }
  prefix_cache: { hit_tokens: number; lookup_tokens: number }
  media_cache: { hits: number; misses: number; bytes: number }
  speculative: { draft_tokens: number; accepted_tokens: number }
  /** Scheduler steps. */
  steps: number
  /** Tokens evaluated. */
  tokens: number
  prompt_tokens: number
  output_tokens: number
  /** Milliseconds spent per phase, summed over requests. */
  phases_ms: { queue: number; encode: number; prefill: number; decode: number; sample: number }
}

/** What `saveConversation()` wrote or `loadConversation()` read. */
export interface SavedConversation {
  tokens: number
  /** Pages of 32 tokens. */
  pages: number
}

/** The KV cache's pools of pages at one moment. */
export interface KvPages {
  groups: {
    page_bytes: number
    pages_total: number
    /** A character a page: '.' free, 'u' used, 's' shared, 'c' held by the prefix cache alone. */
    states: string
  }[]
}

/** Log-probabilities of a text. */
export interface Score {
  /** Token ids, with the tokens the tokenizer adds. */
  tokens: number[]
  /** `[tokens.length]`, natural logarithm, of each token given those before it; NaN for the first. */
  logprobs: Float32Array
}

const text = z
  .string({ error: 'a string' })
  .max(MAX_TEXT_LENGTH, { error: `a string of at most ${MAX_TEXT_LENGTH} characters` })
const someText = text.min(1, { error: 'a non-empty string' })
const filePath = z.string({ error: 'a path' }).min(1, { error: 'a path' })
const signalOptions = z
  .strictObject({
    signal: z.custom<AbortSignal>(isAbortSignal, { error: 'an AbortSignal' }).optional(),
  })
  .default({})
const tokenId = z.int({ error: 'a token id' }).min(0).max(0x7fff_ffff)
const tokenIds = z.union([z.array(tokenId), z.instanceof(Int32Array)], {
  error: 'an array of token ids',
})

/** @internal Distributes the batches of native events to the sessions they belong to. */
export class EventRouter {
  readonly #sinks = new Map<number, (event: NativeEvent) => void>()
  #nextId = 1

  readonly onEvents = (events: NativeEvent[]): void => {
    for (const event of events) {
      const sink = this.#sinks.get(event.id)
      if (event.type === 'finish' || event.type === 'error') this.#sinks.delete(event.id)
      if (sink !== undefined) deliver(sink, event)
    }
  }

  add(sink: (event: NativeEvent) => void): number {
    while (this.#sinks.has(this.#nextId)) this.#advance()
    const id = this.#nextId
    this.#advance()
    this.#sinks.set(id, sink)
    return id
  }

  remove(id: number): void {
    this.#sinks.delete(id)
  }

  /**
   * After dispose. Native code has delivered every event by then; should it ever not, whoever still
   * waits gets an answer all the same.
   */
  failAll(error: Omit<Extract<NativeEvent, { type: 'error' }>, 'id'>): void {
    for (const [id, sink] of [...this.#sinks]) {
      this.#sinks.delete(id)
      deliver(sink, { id, ...error })
    }
  }

  #advance(): void {
    this.#nextId = this.#nextId >= 0x7fff_ffff ? 1 : this.#nextId + 1
  }
}

/** One request's fault must not cost the others of the same batch their events. */
function deliver(sink: (event: NativeEvent) => void, event: NativeEvent): void {
  try {
    sink(event)
  } catch (error) {
    // Sessions end themselves on a fault, so this is a bug of ours: said aloud, not swallowed.
    process.emitWarning(`polymind-native lost an event of request ${event.id}: ${String(error)}`)
  }
}

let linkOf: (engine: Engine) => EngineLink
let create: (native: NativeEngine, events: EventRouter, binding: NativeBinding) => Engine

/**
 * A loaded model. Requests of any number of callers run in one batch; nothing here blocks the JS
 * thread. Free it with `dispose()` or `await using`.
 */
export class Engine {
  readonly #native: NativeEngine
  readonly #events: EventRouter
  readonly #binding: NativeBinding
  readonly #link: EngineLink
  #disposing: Promise<void> | undefined

  static {
    linkOf = (engine) => engine.#link
    create = (native, events, binding) => new Engine(native, events, binding)
  }

  private constructor(native: NativeEngine, events: EventRouter, binding: NativeBinding) {
    this.#native = native
    this.#events = events
    this.#binding = binding
    this.#link = this.#createLink()
  }

  /** Starts a generation on this engine; see `run()`. */
  run(request: RunRequest, options: GenerationOptions = {}): Generation {
    return startGeneration(request, options, new CallSite(this.run), () => this.#link)
  }

  /** Model, limits, modalities and the memory in use. */
  info(): EngineInfo {
    return JSON.parse(callSync(new CallSite(this.info), () => this.#native.info())) as EngineInfo
  }

  /** Counters and state; cheap, never waits for the engine. Also works after dispose(). */
  stats(): EngineStats {
    return JSON.parse(callSync(new CallSite(this.stats), () => this.#native.stats())) as EngineStats
  }

  /**
   * Token ids of `text`.
   *
   * @param options `add_special` (false): add the tokens the vocabulary puts around a text (begin, end);
   * `parse_special` (false): let `<bos>` and the like in the text become control tokens.
   * @throws MMError `MM_INVALID_REQUEST`, `MM_DISPOSED`
   */
  async tokenize(
    input: string,
    options: { add_special?: boolean; parse_special?: boolean } = {},
  ): Promise<number[]> {
    const site = new CallSite(this.tokenize)
    const checked = guard(site, () => parse(text, input, 'text'))
    this.#alive(site)
    const { add_special = false, parse_special = false } = options
    const work = () => this.#native.tokenize(checked, add_special, parse_special)
    return Array.from(await callAsync(site, work))
  }

  /** Text of token ids. @throws MMError `MM_INVALID_REQUEST`, `MM_DISPOSED` */
  async detokenize(ids: number[] | Int32Array): Promise<string> {
    const site = new CallSite(this.detokenize)
    const checked = guard(site, () => parse(tokenIds, ids, 'ids'))
    this.#alive(site)
    return callAsync(site, () => this.#native.detokenize(Int32Array.from(checked)))
  }

  /**
   * How probable the model finds a text.
   *
   * @throws MMError `MM_INVALID_REQUEST`, `MM_CONTEXT_OVERFLOW`, `MM_DISPOSED`; `signal.reason` when
   * cancelled.
   */
  async score(input: string, options: { signal?: AbortSignal } = {}): Promise<Score> {
    const site = new CallSite(this.score)
    const checked = guard(site, () => parse(someText, input, 'text'))
    const { tokens, logprobs } = await this.#cancellable(site, options, (token) =>
      this.#native.score(checked, token),
    )
    return { tokens: Array.from(tokens), logprobs }
  }

  /**
   * Embedding vectors, L2-normalized, of the model's embedding width: one for a string, an array for
   * an array of strings. Media parts are refused: no embedding model with media is supported yet.
   *
   * @throws MMError `MM_INVALID_REQUEST`, `MM_ENGINE_UNAVAILABLE`, `MM_CONTEXT_OVERFLOW`, `MM_DISPOSED`
   */
  embed(inputs: string, options?: { signal?: AbortSignal }): Promise<Float32Array>
  embed(inputs: string[], options?: { signal?: AbortSignal }): Promise<Float32Array[]>
  async embed(
    inputs: string | string[],
    options: { signal?: AbortSignal } = {},
  ): Promise<Float32Array | Float32Array[]> {
    const site = new CallSite(this.embed)
    const many = Array.isArray(inputs)
    const texts = guard(site, () =>
      (many ? inputs : [inputs]).map((input, i) =>
        parse(someText, input, many ? `inputs[${i}]` : 'inputs'),
      ),
    )
    const vectors: Float32Array[] = []
    for (const input of texts) {
      vectors.push(await this.#cancellable(site, options, (t) => this.#native.embed(input, t)))
    }
    return many ? vectors : (vectors[0] as Float32Array)
  }

  /**
   * Writes to `path` what the KV cache holds of a conversation, in whole pages, so that it can go on
   * later, or in another process, without evaluating it again. The messages themselves stay with
   * the caller.
   *
   * @param request the conversation as it would be given to `run()`; `tools` as given there, since
   * they are part of the prompt.
   * @returns tokens (32 a page) and pages written; 0 if nothing of it is in memory any more.
   * @throws MMError `MM_INVALID_REQUEST` (also: the file cannot be written), `MM_ENGINE_UNAVAILABLE`
   * without a prefix cache, `MM_DISPOSED`
   */
  async saveConversation(
    path: string,
    request: RunRequest,
    options: { tools?: Tools } = {},
  ): Promise<SavedConversation> {
    const site = new CallSite(this.saveConversation)
    this.#alive(site)
    const checked = guard(site, () => parse(filePath, path, 'path'))
    return callAsync(site, async () =>
      this.#native.savePrefix(await conversationPrompt(request, options.tools), checked),
    )
  }

  /**
   * Brings a saved conversation back into the prefix cache: the next `run()` with its messages
   * continues from there (`usage.cached_tokens`). Model and KV types must be those it was saved with.
   *
   * @throws MMError `MM_INVALID_REQUEST` for a file that is missing, damaged or of another model,
   * `MM_OUT_OF_MEMORY` if the pool has no room, `MM_ENGINE_UNAVAILABLE`, `MM_DISPOSED`
   */
  async loadConversation(path: string): Promise<SavedConversation> {
    const site = new CallSite(this.loadConversation)
    this.#alive(site)
    const checked = guard(site, () => parse(filePath, path, 'path'))
    return callAsync(site, () => this.#native.loadPrefix(checked))
  }

  /** The pages of the KV cache, one pool for each group of layers; none with stock memory. */
  async kvPages(): Promise<KvPages> {
    const site = new CallSite(this.kvPages)
    this.#alive(site)
    return JSON.parse(await callAsync(site, () => this.#native.kvPages())) as KvPages
  }

  /**
   * Would order documents by relevance to a query.
   *
   * @throws MMError `MM_ENGINE_UNAVAILABLE`: needs a reranking model, which this build cannot run.
   */
  async rerank(_query: string, _documents: string[]): Promise<never> {
    const site = new CallSite(this.rerank)
    this.#alive(site)
    throw site.adopt(
      unavailable(
        'engine.rerank()',
        'reranking needs a cross-encoder with a ranking head, which this build does not run yet',
        'compare vectors of engine.embed() instead',
      ),
    )
  }

  /**
   * Ends every request with `MM_DISPOSED`, stops the threads and frees the model. Resolves when the
   * memory is back; calling it again is harmless.
   */
  dispose(): Promise<void> {
    const site = new CallSite(this.dispose)
    this.#disposing ??= this.#dispose(site)
    return this.#disposing
  }

  /** For `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  async #dispose(site: CallSite): Promise<void> {
    await callAsync(site, () => this.#native.dispose())
    this.#events.failAll({
      type: 'error',
      code: 'MM_DISPOSED',
      message: 'the engine was disposed',
      details: '',
      usage: NO_USAGE,
      timings: NO_TIMINGS,
    })
  }

  #createLink(): EngineLink {
    const native = this.#native
    const events = this.#events
    const info = JSON.parse(native.info()) as EngineInfo
    return {
      model: info.model.name !== '' ? info.model.name : info.model.description,
      submit: (request, onEvent) => {
        this.#alive()
        const id = events.add(onEvent)
        try {
          native.submit({ id, ...request })
        } catch (error) {
          events.remove(id)
          throw fromNative(error)
        }
        return id
      },
      cancel: (id) => native.cancel(id),
      finish: (id) => native.finish(id),
      toolResult: (id, callId, line) => native.toolResult(id, callId, line),
    }
  }

  #alive(site?: CallSite): void {
    if (this.#disposing === undefined) return
    const error = new MMError(
      'MM_DISPOSED',
      'expected an engine that was not disposed, received one after dispose()',
      { where: 'engine', hint: 'load() a new engine' },
    )
    throw site === undefined ? error : site.adopt(error)
  }

  async #cancellable<T>(
    site: CallSite,
    options: unknown,
    work: (token: NativeCancelToken) => Promise<T>,
  ): Promise<T> {
    const { signal } = guard(site, () => parse(signalOptions, options, 'options'))
    this.#alive(site)
    return withCancelToken(this.#binding, signal, (token) => callAsync(site, () => work(token)))
  }
}

/** Runs native work whose cancel token follows `signal`. */
export async function withCancelToken<T>(
  binding: NativeBinding,
  signal: AbortSignal | undefined,
  work: (token: NativeCancelToken) => Promise<T>,
): Promise<T> {
  if (signal?.aborted === true) throw abortReason(signal)
  const token = binding.createCancelToken()
  const onAbort = () => token.cancel()
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    return await work(token)
  } catch (error) {
    if (isAborted(signal) && (error as MMError).code === 'MM_CANCELLED') throw abortReason(signal)
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}

// A function, because TypeScript takes the answer before the await for the one after it.
function isAborted(signal: AbortSignal | undefined): signal is AbortSignal {
  return signal?.aborted === true
}

function guard<T>(site: CallSite, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw site.adopt(error)
  }
}

/** @internal The way in for run(). */
export function engineLink(engine: Engine): EngineLink {
  return linkOf(engine)
}

/** @internal Loads an engine from checked options. */
export async function openEngine(
  binding: NativeBinding,
  options: NativeLoadOptions,
  signal: AbortSignal | undefined,
  onProgress: (fraction: number) => void,
): Promise<Engine> {
  const events = new EventRouter()
  const native = await withCancelToken(binding, signal, (token) =>
    binding.loadEngine(options, token, events.onEvents, onProgress),
  )
  return create(native, events, binding)
}
