/** What an iterator tells its owner. */
export interface IteratorHooks {
  /** Called once, at the first next(). */
  onStart?(): void
  /**
   * Called once when the consumer leaves before the end (`break`, `throw`, `return()`); awaited, so
   * that after a `for await` everything is cleaned up.
   */
  onLeave(): Promise<void>
  /** Called once when a consumer that had started is finished in any way. */
  onDone?(): void
}

/**
 * Events of one producer for any number of consumers. Everything is kept, so that a consumer which
 * comes late still sees the whole story from the start; each has its own position.
 */
export class EventQueue<T> {
  readonly #items: T[] = []
  #end: { error?: unknown; failed: boolean } | undefined
  #wakeups: (() => void)[] = []

  /** Adds an event. Nothing may follow {@link end} or {@link fail}. */
  push(item: T): void {
    if (this.#end !== undefined) return
    this.#items.push(item)
    this.#wake()
  }

  /** The stream is complete. */
  end(): void {
    this.#close({ failed: false })
  }

  /** The stream broke; each consumer gets `error` once, after the events before it. */
  fail(error: unknown): void {
    this.#close({ failed: true, error })
  }

  /**
   * An independent iterator from the first event on.
   *
   * @param select maps an event to what the consumer gets, undefined to leave it out.
   */
  iterate<R>(select: (item: T) => R | undefined, hooks: IteratorHooks): AsyncIterableIterator<R> {
    return new QueueIterator<T, R>(this, select, hooks)
  }

  /** @internal The event at `index`, `'wait'`, or the end. */
  at(index: number): { item: T } | 'wait' | { error?: unknown; failed: boolean } {
    if (index < this.#items.length) return { item: this.#items[index] as T }
    return this.#end ?? 'wait'
  }

  /** @internal Resolves when something was added. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#wakeups.push(resolve))
  }

  #close(end: { error?: unknown; failed: boolean }): void {
    if (this.#end !== undefined) return
    this.#end = end
    this.#wake()
  }

  #wake(): void {
    const wakeups = this.#wakeups
    this.#wakeups = []
    for (const wake of wakeups) wake()
  }
}

class QueueIterator<T, R> implements AsyncIterableIterator<R> {
  #position = 0
  #started = false
  #done = false
  /** Calls of next() answer in order even when several are made without waiting. */
  #tail: Promise<unknown> = Promise.resolve()

  constructor(
    private readonly queue: EventQueue<T>,
    private readonly select: (item: T) => R | undefined,
    private readonly hooks: IteratorHooks,
  ) {}

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<R>> {
    if (!this.#started && !this.#done) {
      this.#started = true
      this.hooks.onStart?.()
    }
    const turn = this.#tail.then(() => this.#advance())
    this.#tail = turn.catch(() => {})
    return turn
  }

  async return(): Promise<IteratorResult<R>> {
    if (!this.#done) {
      this.#finish()
      await this.hooks.onLeave()
    }
    return { done: true, value: undefined }
  }

  async throw(error: unknown): Promise<IteratorResult<R>> {
    await this.return()
    throw error
  }

  async #advance(): Promise<IteratorResult<R>> {
    while (!this.#done) {
      const state = this.queue.at(this.#position)
      if (state === 'wait') {
        await this.queue.changed()
      } else if ('item' in state) {
        this.#position++
        const value = this.select(state.item)
        if (value !== undefined) return { done: false, value }
      } else {
        this.#finish()
        if (state.failed) throw state.error
      }
    }
    return { done: true, value: undefined }
  }

  #finish(): void {
    if (this.#done) return
    this.#done = true
    if (this.#started) this.hooks.onDone?.()
  }
}
