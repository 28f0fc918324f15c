import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { isAbortSignal } from './abi/load-options.js'
import { parse } from './abi/parse.js'
import { parseRequest } from './abi/request.js'
import { strict } from './abi/strict.js'
import type { CallSite } from './errors.js'
import { type EngineLink, Session } from './session.js'
import { compileTools } from './tools/compile.js'
import type { Tools } from './tools/tool.js'
import type { PartialResult, RunEvent, RunResult } from './types.js'

/** Options of `engine.run()`. */
export interface GenerationOptions {
  /** Cancels the generation; it rejects with `signal.reason`. */
  signal?: AbortSignal | undefined
  /** Functions the model may call, by name. */
  tools?: Tools | undefined
}

const optionsSchema = strict({
  signal: z.custom<AbortSignal>(isAbortSignal, { error: 'an AbortSignal' }).optional(),
  tools: z.unknown().optional(),
})

/**
 * A running answer. Iterate it for text, await it for the whole result, read `events()` for
 * everything; any number of consumers may do so, each sees all of it from the start.
 *
 * - Leaving a `for await` early cancels and waits until the slot is free.
 * - A failure reaches each consumer once; without consumers it is dropped, never an unhandled
 *   rejection. Cancelled: `signal.reason`, or an `MMError` with code `MM_CANCELLED`. What had been
 *   produced is on `error.partial` when the error is an object that can carry it and carries none
 *   yet, and always on {@link partial}.
 */
export class Generation implements AsyncIterable<string>, PromiseLike<RunResult> {
  /** Unique id of this generation, also in its `start` event. */
  readonly id: string
  readonly #session: Session

  /** @internal Made by run() and engine.run(). */
  constructor(id: string, session: Session) {
    this.id = id
    this.#session = session
  }

  /** Text deltas, none empty. */
  [Symbol.asyncIterator](): AsyncIterableIterator<string> {
    const select = (event: RunEvent) => (event.type === 'text-delta' ? event.text : undefined)
    return this.#session.events.iterate(select, { onLeave: () => this.#leave() })
  }

  /**
   * Every event from `start` to `finish`. While somebody reads them, a call of an allowed tool for
   * which no function was given waits for {@link feedToolResult}; otherwise it ends the generation
   * with reason `tool_calls`.
   */
  events(): AsyncIterableIterator<RunEvent> {
    return this.#session.events.iterate((event) => event, {
      // From the first next() on: an iterator that is made and left alone answers no tool call.
      onStart: () => {
        this.#session.watchers++
      },
      onLeave: () => this.#leave(),
      onDone: () => {
        this.#session.watchers--
      },
    })
  }

  /**
   * What has been produced until now, at the end all of it; `finish_reason` is absent while the
   * generation runs. Works however it ended: when one abort reason ends several generations, only
   * the first of them leaves its result on `error.partial`, each has its own here.
   */
  get partial(): PartialResult {
    return this.#session.partial()
  }

  /** The whole result. */
  result(): Promise<RunResult> {
    return this.#session.result
  }

  // biome-ignore lint/suspicious/noThenProperty: a Generation is awaitable by contract
  then<A = RunResult, B = never>(
    onResult?: ((result: RunResult) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#session.result.then(onResult, onError)
  }

  /** Stops the generation; consumers get `reason`, or `MM_CANCELLED`. Harmless when it is over. */
  cancel(reason?: unknown): void {
    this.#session.cancel(reason)
  }

  /**
   * Answers a tool call seen in `events()`. `result` is anything JSON can hold; an Error tells the
   * model that the tool failed.
   *
   * @throws MMError `MM_INVALID_REQUEST` when no such call waits.
   */
  feedToolResult(callId: string, result: unknown): void {
    this.#session.feed(callId, result)
  }

  async #leave(): Promise<void> {
    this.#session.cancel()
    await this.#session.result.catch(() => {})
  }
}

/**
 * Validates and starts a request.
 *
 * @param connect gives the engine; may load one.
 */
export function startGeneration(
  request: unknown,
  options: unknown,
  site: CallSite,
  connect: () => EngineLink | Promise<EngineLink>,
): Generation {
  const id = randomUUID()
  let session: Session
  try {
    const { signal, tools } = parse(optionsSchema, options ?? {}, 'options')
    const compiled = compileTools(tools as Tools | undefined)
    const resolved = parseRequest(request)
    session = new Session({ id, site, signal, connect })
    session.start(resolved, compiled)
  } catch (error) {
    session = new Session({ id, site, connect })
    session.fail(error)
  }
  return new Generation(id, session)
}
