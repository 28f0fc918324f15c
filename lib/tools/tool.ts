import type { z } from 'zod'
import type { MediaReference } from '../media/prepare.js'

/** What a tool's function gets besides its arguments. */
export interface ToolContext {
  /** Aborted when the generation is cancelled, its budget ends or the tool's time is up. */
  signal: AbortSignal
  /** The media of the request, in order; `ref` (`#img0`) is how arguments name them. */
  media: readonly MediaReference[]
  /** Identifies the call in events. */
  call_id: string
}

/** A JSON Schema (2020-12) as an object. */
export type JsonSchema = Record<string, unknown>

/** A tool with a description of its arguments. */
export interface ToolDefinition<Args = Record<string, unknown>> {
  /** Must equal its key in `tools` when given. */
  name?: string
  /** Shown to the model, where its chat template has room for it. */
  description?: string
  /** A zod schema or a JSON Schema; arguments that do not fit are refused before `execute`. */
  parameters?: z.ZodType<Args> | JsonSchema
  /**
   * Runs the call. What it returns goes to the model as one line of JSON (at most 64 KiB); what it
   * throws becomes `{"ok":false,"error":…}` and generation goes on.
   */
  execute(args: Args, context: ToolContext): unknown | Promise<unknown>
  /** Longest it may take, milliseconds; 10,000 unless given. */
  timeout_ms?: number
}

/** A bare function takes any object of arguments. */
// biome-ignore lint/suspicious/noExplicitAny: a tool with any argument type fits the table of tools
export type Tool = ToolDefinition<any> | ((args: any, context: ToolContext) => unknown)

/** Tools by the name the model calls them. */
export type Tools = Record<string, Tool>

/** Types `args` of `execute` from `parameters`; does nothing at run time. */
export function defineTool<Args>(tool: ToolDefinition<Args>): ToolDefinition<Args> {
  return tool
}
