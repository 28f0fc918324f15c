import type { Generation } from '../generation.js'
import type { RunEvent } from '../types.js'
import type { Output } from './output.js'

/** Streams an answer: text to stdout, reasoning and tool calls to stderr. */
export async function printEvents(generation: Generation, output: Output): Promise<void> {
  for await (const event of generation.events()) printEvent(event, output)
  output.endLine()
}

function printEvent(event: RunEvent, output: Output): void {
  if (event.type === 'text-delta') output.text(event.text)
  else if (event.type === 'reasoning-delta') output.note(event.text)
  else if (event.type === 'tool-call') output.note(callLine(event.call))
  else if (event.type === 'tool-result') {
    output.note(
      event.ok ? `← ${JSON.stringify(event.result)}` : `← failed: ${event.error?.message}`,
    )
  }
}

function callLine(call: { tool: string; args: unknown; invalid?: string; raw?: string }): string {
  if (call.invalid !== undefined) return `→ ${call.raw ?? ''} (${call.invalid})`
  return `→ ${call.tool} ${JSON.stringify(call.args)}`
}
