/** Longest tool call accepted, UTF-16 code units. */
export const MAX_TOOL_CALL_LENGTH = 64 * 1024

/** A tool call as the model wrote it; `invalid` says why it cannot be executed. */
export type ParsedToolCall =
  | { tool: string; args: Record<string, unknown>; invalid?: undefined }
  | { tool: string; args: Record<string, unknown>; invalid: string; raw: string }

/**
 * Parses the text between `<tool_call>` and `</tool_call>`: `{"tool", "args"}` or, as many models
 * write it, `{"name", "arguments"}` where arguments may be a string of JSON. A bad call is data,
 * never an exception: the model is told and goes on.
 */
export function parseToolCall(body: string): ParsedToolCall {
  if (body.length > MAX_TOOL_CALL_LENGTH) {
    return bad(
      '',
      `expected at most ${MAX_TOOL_CALL_LENGTH} characters, received ${body.length}`,
      body,
    )
  }
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch (error) {
    return bad('', `expected JSON: ${error instanceof Error ? error.message : String(error)}`, body)
  }
  if (!isObject(value)) return bad('', 'expected a JSON object with "tool" and "args"', body)
  return fromObject(value, body)
}

function fromObject(value: Record<string, unknown>, body: string): ParsedToolCall {
  const tool = value.tool ?? value.name
  if (typeof tool !== 'string' || tool === '') return bad('', 'expected a "tool" name', body)
  let args: unknown = value.args ?? value.arguments ?? {}
  if (typeof args === 'string') {
    try {
      args = JSON.parse(args) as unknown
    } catch {
      return bad(tool, 'expected "arguments" to be an object or a string of JSON', body)
    }
  }
  if (!isObject(args)) return bad(tool, 'expected "args" to be an object', body)
  return { tool, args }
}

function bad(tool: string, invalid: string, raw: string): ParsedToolCall {
  return { tool: tool.slice(0, 64), args: {}, invalid, raw: raw.slice(0, 1024) }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
