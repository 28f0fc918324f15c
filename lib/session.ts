import { abortReason } from './abi/load-options.js'
import type { ResolvedRequest } from './abi/request.js'
import { type CallSite, MMError } from './errors.js'
import { EventQueue } from './event-queue.js'
import { mediaReferences, type PreparedConversation, prepareConversation } from './media/prepare.js'
import type { NativeEvent, NativeRequest } from './native/binding.js'
import { fromNative, nativeFailure } from './native/call.js'
import type { CompiledTool } from './tools/compile.js'
import { ToolRouter } from './tools/router.js'
import {
  type FinishReason,
  NO_TIMINGS,
  NO_USAGE,
  type PartialResult,
  type RunEvent,
  type RunResult,
  type Timings,
  type Usage,
} from './types.js'

/** What a session needs from its engine. */
export interface EngineLink {
  /** Name of the model, for reports. */
  readonly model: string
  /** Hands a request over; `onEvent` is called for each of its events until a terminal one. */
  submit(request: Omit<NativeRequest, 'id'>, onEvent: (event: NativeEvent) => void): number
  cancel(id: number): void
  finish(id: number): void
  toolResult(id: number, callId: string, line: string): void
}

/** How a session ended. */
type Outcome =
  | { reason: FinishReason; error?: undefined }
  | { reason: 'cancelled' | 'error'; error: unknown }

export interface SessionInit {
  id: string
  site: CallSite
  signal?: AbortSignal | undefined
  connect: () => EngineLink | Promise<EngineLink>
}

/**
 * One request from validation to result. States: preparing (nothing native yet) → submitted →
 * settled. Only {@link Session.#settle} leaves the last one, and it runs once.
 */
export class Session {
  readonly events = new EventQueue<RunEvent>()
  readonly result: Promise<RunResult>
  /** Consumers that read events() and could answer a tool call. */
  watchers = 0

  #resolve!: (result: RunResult) => void
  #reject!: (error: unknown) => void
  readonly #site: CallSite
  readonly #signal: AbortSignal | undefined
  readonly #onAbort = () => this.cancel(this.#signal && abortReason(this.#signal))
  #native: { link: EngineLink; id: number } | undefined
  #router: ToolRouter | undefined
  #cancelled: { reason: unknown } | undefined
  #settled = false
  #final: RunResult | undefined
  #unanswered = false
  #text = ''
  #reasoning = ''
  #model = ''
  #seed = 0
  #prepare_ms = 0
  #usage: Usage = NO_USAGE
  #timings: Timings = NO_TIMINGS

  constructor(private readonly init: SessionInit) {
    this.#site = init.site
    this.#signal = init.signal
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    // A generation nobody consumes must not bring the process down.
    this.result.catch(() => {})
  }

  /** Starts the work; failures arrive through events and result, never here. */
  start(request: ResolvedRequest, tools: Map<string, CompiledTool>): void {
    this.#seed = request.preferences.seed
    if (this.#signal?.aborted === true) {
      this.#onAbort()
      return
    }
    this.#signal?.addEventListener('abort', this.#onAbort, { once: true })
    this.#begin(request, tools).catch((error: unknown) => this.fail(error))
  }

  /** Ends the session with an error before or outside native code. */
  fail(error: unknown): void {
    this.#settle({ reason: 'error', error: this.#site.adopt(error) })
  }

  /**
   * Cancels. Before submission it takes effect at once; after it, when the engine has freed the
   * slot (its next step), so that whoever waits knows the resources are back.
   */
  cancel(reason?: unknown): void {
    if (this.#settled || this.#cancelled !== undefined) return
    this.#cancelled = { reason }
    if (this.#native === undefined) {
      this.#settle(this.#cancelOutcome(this.#cancelled.reason))
      return
    }
    // Tools are told now, not when the engine has answered.
    this.#router?.close()
    try {
      this.#native.link.cancel(this.#native.id)
    } catch {
      // No event will come that could end it: it ends here.
      this.#settle(this.#cancelOutcome(this.#cancelled.reason))
    }
  }

  /** What there is so far; with `finish_reason` once it is over. */
  partial(): PartialResult {
    return this.#final ?? this.#collect()
  }

  /** @throws MMError `MM_INVALID_REQUEST` when no such call waits. */
  feed(callId: string, result: unknown): void {
    if (this.#router === undefined || this.#settled) {
      throw new MMError(
        'MM_INVALID_REQUEST',
        'expected a running generation for feedToolResult(), received one that is not running',
        { where: 'feedToolResult' },
      )
    }
    this.#router.feed(callId, result)
  }

  async #begin(request: ResolvedRequest, tools: Map<string, CompiledTool>): Promise<void> {
    // Media are decoded while the engine is still loading; a failure is reported after `start`.
    const preparing = prepareConversation(request)
    preparing.catch(() => {})
    const link = await this.init.connect()
    if (this.#settled) return
    this.#model = link.model
    const { preferences } = request
    this.events.push({
      type: 'start',
      id: this.init.id,
      preferences,
      seed: preferences.seed,
      model: link.model,
    })
    const since = performance.now()
    const prepared = await preparing
    if (this.#settled) return
    this.#prepare_ms = performance.now() - since
    this.#router = this.#createRouter(request, tools, link)
    const submission = nativeRequest(request, prepared, this.#router.offered(), this.#prepare_ms)
    const id = link.submit(submission, (event) => this.#onNative(event))
    this.#native = { link, id }
  }

  #createRouter(
    request: ResolvedRequest,
    tools: Map<string, CompiledTool>,
    link: EngineLink,
  ): ToolRouter {
    return new ToolRouter(tools, request.tools_allowed, mediaReferences(request), {
      emit: (event) => this.events.push(event),
      answer: (callId, line) => this.#withNative((id) => link.toolResult(id, callId, line)),
      stop: () => {
        this.#unanswered = true
        this.#withNative((id) => link.finish(id))
      },
      isWatched: () => this.watchers > 0,
    })
  }

  #withNative(work: (id: number) => void): void {
    if (this.#native === undefined || this.#settled) return
    try {
      work(this.#native.id)
    } catch (error) {
      this.#abandon(fromNative(error))
    }
  }

  /** Fails while the engine still works on the request, and frees its slot. */
  #abandon(error: unknown): void {
    this.fail(error)
    try {
      this.#native?.link.cancel(this.#native.id)
    } catch {
      // The engine is gone, and the slot with it; the first error is the one to report.
    }
  }

  #onNative(event: NativeEvent): void {
    if (this.#settled) return
    try {
      this.#handle(event)
    } catch (error) {
      this.#abandon(error)
    }
  }

  #handle(event: NativeEvent): void {
    switch (event.type) {
      case 'start':
        this.#usage = { ...this.#usage, input_tokens: event.input_tokens }
        break
      case 'text':
        this.#text += event.text
        this.events.push({ type: 'text-delta', text: event.text })
        break
      case 'reasoning':
        this.#reasoning += event.text
        this.events.push({ type: 'reasoning-delta', text: event.text })
        break
      case 'tool_call':
        // After a cancel the call is neither shown nor run: the terminal event is on its way.
        if (this.#cancelled === undefined) this.#router?.handle(event.call_id, event.body)
        break
      default:
        this.#onTerminal(event)
    }
  }

  #onTerminal(event: Extract<NativeEvent, { type: 'finish' | 'error' }>): void {
    this.#usage = event.usage
    const { timings } = event
    const first = timings.ttft_ms > 0 ? timings.ttft_ms + this.#prepare_ms : 0
    this.#timings = { ...timings, ttft_ms: first }
    if (event.type === 'error') {
      if (event.code === 'MM_CANCELLED' && this.#cancelled !== undefined) {
        this.#settle(this.#cancelOutcome(this.#cancelled.reason))
      } else {
        this.fail(nativeFailure(event.code, event.message, event.details))
      }
      return
    }
    if (event.unfinished !== '') this.#router?.recordUnfinished(event.unfinished)
    this.#settle({ reason: this.#unanswered ? 'tool_calls' : event.reason })
  }

  #cancelOutcome(reason: unknown): Outcome {
    const error =
      reason ??
      this.#site.adopt(
        new MMError('MM_CANCELLED', 'the generation was cancelled', { where: 'run' }),
      )
    return { reason: 'cancelled', error }
  }

  #settle(outcome: Outcome): void {
    if (this.#settled) return
    this.#settled = true
    this.#release()
    const { reason } = outcome
    this.events.push({ type: 'finish', reason, usage: this.#usage, timings: this.#timings })
    const result: RunResult = { ...this.#collect(), finish_reason: reason }
    this.#final = result
    if (reason !== 'cancelled' && reason !== 'error') {
      this.events.end()
      this.#resolve(result)
      return
    }
    attachPartial(outcome.error, result)
    this.events.fail(outcome.error)
    this.#reject(outcome.error)
  }

  /** Lets go of signal and tools. Signals may be foreign objects: no fault of theirs may escape. */
  #release(): void {
    this.#router?.close()
    try {
      this.#signal?.removeEventListener('abort', this.#onAbort)
    } catch {
      // The listener stays; it does nothing any more.
    }
  }

  #collect(): Omit<RunResult, 'finish_reason'> {
    return {
      text: this.#text,
      ...(this.#reasoning === '' ? {} : { reasoning: this.#reasoning }),
      tool_calls: [...(this.#router?.records ?? [])],
      outputs: this.#text === '' ? [] : [{ type: 'text', text: this.#text }],
      usage: this.#usage,
      timings: this.#timings,
      model: this.#model,
      seed: this.#seed,
    }
  }
}

/**
 * Leaves the partial result on the error. The error may be the user's abort reason: any value, a
 * proxy, or shared with other generations, of which the first keeps its place.
 */
function attachPartial(error: unknown, partial: RunResult): void {
  if (typeof error !== 'object' || error === null) return
  try {
    if (Reflect.get(error, 'partial') !== undefined) return
    Object.defineProperty(error, 'partial', {
      value: partial,
      configurable: true,
      writable: true,
      enumerable: false,
    })
  } catch {
    // Frozen, sealed or hostile: it carries nothing, generation.partial still does.
  }
}

/** The request as native code takes it; `spent_ms` of its budget have gone into preparing it. */
export function nativeRequest(
  request: ResolvedRequest,
  prepared: PreparedConversation,
  tools: string,
  spent_ms: number,
): Omit<NativeRequest, 'id'> {
  const p = request.preferences
  return {
    messages: prepared.messages,
    tools,
    media: prepared.media,
    cot: p.cot,
    temperature: p.temperature,
    top_p: p.top_p,
    top_k: p.top_k,
    min_p: p.min_p,
    seed: p.seed,
    grammar: p.grammar ?? '',
    json_schema: p.json_schema === undefined ? '' : JSON.stringify(p.json_schema),
    stop: p.stop,
    max_tokens: p.max_tokens ?? 0,
    // Decoding the media files was part of the budget. Never 0, which would mean "no limit".
    budget_ms: p.budget_ms === undefined ? 0 : Math.max(1, p.budget_ms - spent_ms),
  }
}
