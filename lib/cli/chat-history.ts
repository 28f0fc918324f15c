import type { Part } from '../abi/parts.js'
import type { Message } from '../abi/request.js'
import type { RunEvent } from '../types.js'

/**
 * A conversation as the model must see it again: an assistant turn with a tool call in its middle is
 * text, call, result, text, in that order, which the flat text of a RunResult no longer tells.
 */
export class ChatHistory {
  #messages: Message[] = []

  constructor(private readonly system?: string) {
    this.reset()
  }

  get messages(): Message[] {
    return this.#messages
  }

  reset(): void {
    this.#messages = this.system === undefined ? [] : [{ role: 'system', content: this.system }]
  }

  /** Forgets everything after `length` messages: a failed turn must not poison the next one. */
  truncate(length: number): void {
    this.#messages.length = length
  }

  user(parts: Part[]): void {
    this.#messages.push({ role: 'user', content: parts })
  }

  /** Records what the model did. */
  record(event: RunEvent): void {
    if (event.type === 'text-delta') {
      const turn = this.#assistant()
      turn.content = `${typeof turn.content === 'string' ? turn.content : ''}${event.text}`
    } else if (event.type === 'tool-call' && event.call.invalid === undefined) {
      const { id, tool, args } = event.call
      const turn = this.#assistant()
      turn.tool_calls = [...(turn.tool_calls ?? []), { id, tool, args }]
    } else if (event.type === 'tool-result') {
      this.#result(event)
    }
  }

  #result(event: Extract<RunEvent, { type: 'tool-result' }>): void {
    const known = this.#messages.some((m) => m.tool_calls?.some((c) => c.id === event.call_id))
    if (!known) return
    const answer = event.ok
      ? { ok: true, result: event.result }
      : { ok: false, error: event.error?.message }
    const content = JSON.stringify(answer)
    this.#messages.push({ role: 'tool', tool_call_id: event.call_id, content })
  }

  #assistant(): Message {
    const last = this.#messages.at(-1)
    if (last?.role === 'assistant') return last
    const turn: Message = { role: 'assistant', content: '' }
    this.#messages.push(turn)
    return turn
  }
}
