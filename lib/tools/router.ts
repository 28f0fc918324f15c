import { parseToolCall } from '../abi/tool-call.js'
import { mismatch } from '../errors.js'
import type { MediaReference } from '../media/prepare.js'
import type { RunEvent, ToolCallRecord } from '../types.js'
import type { CompiledTool } from './compile.js'
import { encodeOutcome, executeTool, failure, type ToolOutcome } from './execute.js'

/** Calls one request may make; a model that loops must end. */
export const MAX_CALLS = 8
/** Calls beyond MAX_CALLS after which the generation is ended. */
export const MAX_REFUSALS = 2

/** What the router needs from the generation it serves. */
export interface RouterHost {
  /** Publishes an event. */
  emit(event: RunEvent): void
  /** Gives the model one line of JSON; generation goes on. */
  answer(callId: string, line: string): void
  /** Ends the generation: nobody will answer. */
  stop(): void
  /** True while somebody reads events() and could call feedToolResult(). */
  isWatched(): boolean
}

interface OpenCall {
  record: ToolCallRecord
  since: number
  /** True when feedToolResult() is what answers it. */
  external: boolean
}

/** Names the model may call: all tools given unless `allowed` says otherwise. */
export function allowedTools(
  tools: Map<string, CompiledTool>,
  allowed: string[] | undefined,
): string[] {
  return [...new Set(allowed ?? tools.keys())]
}

/** JSON that tells the model about its tools, in order; '' for none. */
export function offeredTools(tools: Map<string, CompiledTool>, allowed: string[]): string {
  if (allowed.length === 0) return ''
  return JSON.stringify(
    allowed.map((name) => {
      const tool = tools.get(name)
      if (tool === undefined) return { name, description: '', parameters: { type: 'object' } }
      return { name, description: tool.description, parameters: tool.parameters }
    }),
  )
}

/**
 * Decides what happens to each tool call of one generation: refuse it, run a function, wait for the
 * caller, or give up. This is the seam the full router (sandboxes, MCP) will be put into.
 */
export class ToolRouter {
  /** Every call so far with its outcome. */
  readonly records: ToolCallRecord[] = []
  readonly #open = new Map<string, OpenCall>()
  readonly #abort = new AbortController()
  readonly #allowed: string[]
  #refusals = 0
  #closed = false

  /**
   * @param tools the functions given, by name.
   * @param allowed names the model may call; undefined: all given.
   */
  constructor(
    private readonly tools: Map<string, CompiledTool>,
    allowed: string[] | undefined,
    private readonly media: MediaReference[],
    private readonly host: RouterHost,
  ) {
    this.#allowed = allowedTools(tools, allowed)
  }

  /** JSON for NativeRequest.tools. */
  offered(): string {
    return offeredTools(this.tools, this.#allowed)
  }

  /** Handles the text between `<tool_call>` and `</tool_call>`. */
  handle(callId: string, body: string): void {
    const record = this.#record(callId, body)
    const open: OpenCall = { record, since: performance.now(), external: false }
    this.#open.set(callId, open)
    const refused = this.#refuse(record)
    if (refused !== undefined) {
      this.#settle(callId, refused)
      return
    }
    const tool = this.tools.get(record.tool)
    if (tool !== undefined) void this.#execute(tool, open)
    else if (this.host.isWatched()) open.external = true
    else this.host.stop()
  }

  /** A call the model began and did not end: recorded, never executed. */
  recordUnfinished(body: string): void {
    const record: ToolCallRecord = {
      id: `unfinished-${this.records.length}`,
      tool: '',
      args: {},
      invalid: 'the tool call was not closed',
      raw: body.slice(0, 1024),
    }
    this.records.push(record)
    this.host.emit({ type: 'tool-call', call: { ...record } })
  }

  /**
   * The caller's answer to a call.
   *
   * @throws MMError `MM_INVALID_REQUEST` when no such call waits for one.
   */
  feed(callId: string, result: unknown): void {
    const open = this.#open.get(callId)
    if (open?.external !== true) {
      const waiting = [...this.#open].filter(([, call]) => call.external).map(([id]) => id)
      throw mismatch('MM_INVALID_REQUEST', {
        expected:
          waiting.length === 0
            ? 'a tool call that waits for its result (none does)'
            : waiting.join(' or '),
        where: 'call_id',
        received: callId,
      })
    }
    const failed = result instanceof Error
    this.#settle(callId, failed ? failure('MM_TOOL_FAILED', result.message) : { ok: true, result })
  }

  /** The generation is over: running tools are told, late answers are dropped. */
  close(): void {
    this.#closed = true
    this.#open.clear()
    this.#abort.abort()
  }

  #record(callId: string, body: string): ToolCallRecord {
    const parsed = parseToolCall(body)
    const record: ToolCallRecord = { id: callId, ...parsed }
    if (record.invalid === undefined) delete record.invalid
    this.records.push(record)
    this.host.emit({ type: 'tool-call', call: { ...record } })
    return record
  }

  #refuse(record: ToolCallRecord): ToolOutcome | undefined {
    if (this.records.length > MAX_CALLS) {
      this.#refusals++
      return failure('MM_TOOL_DENIED', `at most ${MAX_CALLS} tool calls are allowed in one request`)
    }
    if (record.invalid !== undefined) {
      return failure('MM_TOOL_FAILED', `invalid tool call: ${record.invalid}`)
    }
    if (!this.#allowed.includes(record.tool)) {
      const allowed = this.#allowed.length === 0 ? 'none' : this.#allowed.join(', ')
      return failure('MM_TOOL_DENIED', `tool ${record.tool} is not allowed; allowed: ${allowed}`)
    }
    return undefined
  }

  async #execute(tool: CompiledTool, open: OpenCall): Promise<void> {
    const { record } = open
    const context = { signal: this.#abort.signal, media: this.media, call_id: record.id }
    this.#settle(record.id, await executeTool(tool, record.args, context))
  }

  #settle(callId: string, given: ToolOutcome): void {
    const open = this.#open.get(callId)
    if (this.#closed || open === undefined) return
    this.#open.delete(callId)
    const { line, outcome } = encodeOutcome(given)
    const elapsed_ms = performance.now() - open.since
    Object.assign(open.record, outcome, { elapsed_ms })
    this.host.emit({ type: 'tool-result', call_id: callId, ...outcome, elapsed_ms })
    if (this.#refusals >= MAX_REFUSALS) this.host.stop()
    else this.host.answer(callId, line)
  }
}
