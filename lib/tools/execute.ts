import { MMError, type MMErrorCode } from '../errors.js'
import type { CompiledTool } from './compile.js'
import type { ToolContext } from './tool.js'

/** Longest line of JSON that goes back to the model, bytes of UTF-8. */
export const MAX_RESULT_BYTES = 64 * 1024
const MAX_ERROR_LENGTH = 512

/** Why a call has no result. */
export interface ToolFailure {
  code: MMErrorCode
  message: string
}

/** What became of a call. */
export type ToolOutcome = { ok: true; result: unknown } | { ok: false; error: ToolFailure }

/**
 * Checks the arguments and runs the tool. Never throws: whatever goes wrong in somebody's tool is
 * data for the model. A tool that ignores its signal is left behind when its time is up.
 */
export async function executeTool(
  tool: CompiledTool,
  args: Record<string, unknown>,
  context: ToolContext,
): Promise<ToolOutcome> {
  let checked: unknown
  try {
    checked = tool.check(args)
  } catch (error) {
    return failure('MM_TOOL_FAILED', `invalid arguments: ${messageOf(error)}`)
  }
  return raceTool(tool, checked, context)
}

async function raceTool(
  tool: CompiledTool,
  args: unknown,
  context: ToolContext,
): Promise<ToolOutcome> {
  const timeout = new AbortController()
  const signal = AbortSignal.any([context.signal, timeout.signal])
  const late = new Promise<ToolOutcome>((resolve) => {
    signal.addEventListener('abort', () => resolve(interrupted(tool, timeout.signal)), {
      once: true,
    })
    if (signal.aborted) resolve(interrupted(tool, timeout.signal))
  })
  const timer = setTimeout(() => timeout.abort(timedOut(tool)), tool.timeout_ms)
  try {
    return await Promise.race([settle(tool, args, { ...context, signal }), late])
  } finally {
    clearTimeout(timer)
  }
}

async function settle(
  tool: CompiledTool,
  args: unknown,
  context: ToolContext,
): Promise<ToolOutcome> {
  try {
    const result: unknown = await tool.execute(args, context)
    return { ok: true, result: result === undefined ? null : result }
  } catch (error) {
    return failure('MM_TOOL_FAILED', messageOf(error))
  }
}

function timedOut(tool: CompiledTool): MMError {
  return new MMError(
    'MM_TIMEOUT',
    `tool ${tool.name} did not answer within ${tool.timeout_ms} ms`,
    { where: `tools.${tool.name}` },
  )
}

function interrupted(tool: CompiledTool, timeout: AbortSignal): ToolOutcome {
  if (timeout.aborted) return failure('MM_TIMEOUT', timedOut(tool).message)
  return failure('MM_CANCELLED', 'the generation ended before the tool answered')
}

/** A failed outcome with a message short enough to show the model. */
export function failure(code: MMErrorCode, message: string): ToolOutcome & { ok: false } {
  const text =
    message.length <= MAX_ERROR_LENGTH ? message : `${message.slice(0, MAX_ERROR_LENGTH)}…`
  return { ok: false, error: { code, message: text } }
}

function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? error.message : String(error)
  } catch {
    return 'the tool threw something that cannot be printed'
  }
}

/** The line that goes back to the model, and the outcome it tells. */
export interface ToolLine {
  line: string
  outcome: ToolOutcome
}

/**
 * One line of JSON for the model: `{"ok":true,"result":…}` or `{"ok":false,"error":"…"}`. A result
 * that is no JSON or too long becomes a failure.
 */
export function encodeOutcome(outcome: ToolOutcome): ToolLine {
  if (!outcome.ok) return { line: encode({ ok: false, error: outcome.error.message }), outcome }
  let line: string
  try {
    line = encode({ ok: true, result: outcome.result ?? null })
  } catch (error) {
    return encodeOutcome(failure('MM_TOOL_FAILED', `result is not JSON: ${messageOf(error)}`))
  }
  const size = Buffer.byteLength(line)
  if (size <= MAX_RESULT_BYTES) return { line, outcome }
  const message = `result has ${size} bytes, at most ${MAX_RESULT_BYTES} are allowed`
  return encodeOutcome(failure('MM_TOOL_FAILED', message))
}

/**
 * JSON in which no special token can be spelt: `</tool_result>` or `<|system|>` inside a tool's
 * output (a web page, say) would otherwise let it forge turns of the conversation.
 */
function encode(value: unknown): string {
  return JSON.stringify(value).replace(/<(?=[|/a-z_])/gi, '\\u003c')
}
