import type {
  NativeBinding,
  NativeBuildInfo,
  NativeCancelToken,
  NativeEngine,
  NativeEvent,
  NativeLoadOptions,
  NativeRequest,
} from '../../lib/native/binding.js'
import { useBinding } from '../../lib/native/load.js'
import { NO_TIMINGS, NO_USAGE } from '../../lib/types.js'

/** A call the code under test made. */
export interface RecordedCall {
  name: string
  args: unknown[]
}

// Omit on a union would merge its members; this keeps them apart.
type WithoutId<E> = E extends unknown ? Omit<E, 'id'> : never

/** What a test does with one submitted request. */
export class FakeRequest {
  readonly answers: { callId: string; line: string }[] = []
  cancelled = false
  finished = false
  #done = false

  constructor(
    readonly request: NativeRequest,
    private readonly send: (events: NativeEvent[]) => void,
  ) {}

  emit(...events: WithoutId<NativeEvent>[]): void {
    if (this.#done) return
    this.#done = events.some((event) => event.type === 'finish' || event.type === 'error')
    this.send(events.map((event) => ({ id: this.request.id, ...event }) as NativeEvent))
  }

  text(...chunks: string[]): void {
    this.emit(...chunks.map((text) => ({ type: 'text' as const, text })))
  }

  toolCall(callId: string, body: unknown): void {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    this.emit({ type: 'tool_call', call_id: callId, body: text })
  }

  finish(reason: 'stop' | 'length' | 'budget' = 'stop', unfinished = ''): void {
    this.emit({ type: 'finish', reason, usage: USAGE, timings: TIMINGS, unfinished })
  }

  fail(code: string, message: string, details = '{}'): void {
    this.emit({ type: 'error', code, message, details, usage: USAGE, timings: TIMINGS })
  }
}

export const USAGE = { ...NO_USAGE, input_tokens: 7, output_tokens: 3 }
export const TIMINGS = { ...NO_TIMINGS, ttft_ms: 5, decode_ms: 10 }

/** How a fake engine answers; anything not given throws, so that a test never passes by accident. */
export interface FakeScript {
  /** Called for each submitted request, after submit() returned. */
  onSubmit?(request: FakeRequest): void | Promise<void>
  /** Called for each toolResult(); the request goes on from there. */
  onToolResult?(request: FakeRequest, callId: string, line: string): void
  /** Called by cancel(); default: the error event follows on the next turn. */
  onCancel?(request: FakeRequest): void
  load?(options: NativeLoadOptions): Promise<void> | void
  score?(text: string, cancel: FakeToken): Promise<{ tokens: Int32Array; logprobs: Float32Array }>
}

export class FakeToken implements NativeCancelToken {
  cancelled = false
  #listeners: (() => void)[] = []

  cancel(): void {
    this.cancelled = true
    for (const listener of this.#listeners) listener()
  }

  onCancel(listener: () => void): void {
    this.#listeners.push(listener)
  }
}

export class FakeBinding implements NativeBinding {
  readonly calls: RecordedCall[] = []
  readonly engines: FakeEngine[] = []

  constructor(readonly script: FakeScript = {}) {}

  named(name: string): RecordedCall[] {
    return this.calls.filter((call) => call.name === name)
  }

  buildInfo(): NativeBuildInfo {
    return {
      version: '0.0.0',
      llama: 'fake',
      compiler: 'none',
      cpu_build: 'portable',
      cpu_features: ['FAKE'],
      sanitizer: 'none',
    }
  }

  createCancelToken(): NativeCancelToken {
    return new FakeToken()
  }

  inspectGguf(path: string): Promise<string> {
    throw new Error(`not scripted: inspectGguf(${path})`)
  }

  async loadEngine(
    options: NativeLoadOptions,
    cancel: NativeCancelToken,
    onEvents: (events: NativeEvent[]) => void,
    onProgress: (fraction: number) => void,
  ): Promise<NativeEngine> {
    this.calls.push({ name: 'loadEngine', args: [options] })
    onProgress(0.5)
    await this.script.load?.(options)
    if ((cancel as FakeToken).cancelled) throw nativeError('MM_CANCELLED', 'loading was cancelled')
    const engine = new FakeEngine(this, onEvents)
    this.engines.push(engine)
    return engine
  }
}

export class FakeEngine implements NativeEngine {
  readonly requests = new Map<number, FakeRequest>()
  #disposed = false

  constructor(
    private readonly binding: FakeBinding,
    private readonly onEvents: (events: NativeEvent[]) => void,
  ) {}

  info(): string {
    return JSON.stringify({
      model: { name: 'fake-model', description: 'fake' },
      modalities: ['text'],
    })
  }

  stats(): string {
    return JSON.stringify({ requests: { running: this.requests.size } })
  }

  async savePrefix(
    request: NativeRequest,
    path: string,
  ): Promise<{ tokens: number; pages: number }> {
    this.#record('savePrefix', request, path)
    return { tokens: 64, pages: 2 }
  }

  async loadPrefix(path: string): Promise<{ tokens: number; pages: number }> {
    this.#record('loadPrefix', path)
    return { tokens: 64, pages: 2 }
  }

  async kvPages(): Promise<string> {
    return JSON.stringify({ groups: [] })
  }

  submit(request: NativeRequest): void {
    this.#record('submit', request)
    if (this.#disposed) throw nativeError('MM_DISPOSED', 'the engine was disposed')
    const fake = new FakeRequest(request, (events) => this.onEvents(events))
    this.requests.set(request.id, fake)
    const { onSubmit } = this.binding.script
    if (onSubmit === undefined) throw new Error('not scripted: submit')
    setImmediate(() => void onSubmit(fake))
  }

  cancel(id: number): void {
    this.#record('cancel', id)
    const request = this.requests.get(id)
    if (request === undefined) return
    request.cancelled = true
    const answer = this.binding.script.onCancel ?? ((r) => r.fail('MM_CANCELLED', 'cancelled'))
    setImmediate(() => answer(request))
  }

  finish(id: number): void {
    this.#record('finish', id)
    const request = this.requests.get(id)
    if (request === undefined) return
    request.finished = true
    setImmediate(() => request.finish('stop'))
  }

  toolResult(id: number, callId: string, content: string): void {
    this.#record('toolResult', id, callId, content)
    const request = this.requests.get(id)
    if (request === undefined) throw nativeError('MM_INVALID_REQUEST', `no request ${id}`)
    request.answers.push({ callId, line: content })
    const { onToolResult } = this.binding.script
    if (onToolResult === undefined) throw new Error('not scripted: toolResult')
    setImmediate(() => onToolResult(request, callId, content))
  }

  async tokenize(text: string): Promise<Int32Array> {
    this.#record('tokenize', text)
    return Int32Array.from(text, (character) => character.charCodeAt(0))
  }

  async detokenize(ids: Int32Array): Promise<string> {
    this.#record('detokenize', ids)
    return String.fromCharCode(...ids)
  }

  score(text: string, cancel: NativeCancelToken) {
    this.#record('score', text)
    const { score } = this.binding.script
    if (score === undefined) throw new Error('not scripted: score')
    return score(text, cancel as FakeToken)
  }

  async embed(text: string): Promise<Float32Array> {
    this.#record('embed', text)
    return Float32Array.of(text.length)
  }

  async dispose(): Promise<void> {
    this.#record('dispose')
    this.#disposed = true
    for (const request of this.requests.values())
      request.fail('MM_DISPOSED', 'the engine was disposed')
  }

  #record(name: string, ...args: unknown[]): void {
    this.binding.calls.push({ name, args })
  }
}

/** An error as native code throws it. */
export function nativeError(code: string, message: string, details: object = {}): Error {
  return Object.assign(new Error(message), { code, details: JSON.stringify(details) })
}

/** Runs `work` with the library on a fake, and puts everything back. */
export async function withFake<T>(
  script: FakeScript,
  work: (binding: FakeBinding) => Promise<T>,
): Promise<T> {
  const binding = new FakeBinding(script)
  const undo = useBinding(binding)
  try {
    return await work(binding)
  } finally {
    undo()
  }
}
