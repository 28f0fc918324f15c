import { randomInt } from 'node:crypto'
import { z } from 'zod'
import { unavailable } from '../errors.js'
import { parse } from './parse.js'
import { part } from './parts.js'
import { MAX_SEED, preferences, type ResolvedPreferences } from './preferences.js'
import { strict } from './strict.js'

const MAX_PARTS = 1024
const MAX_MESSAGES = 4096
const MAX_TOOLS = 128
const MAX_CONVERSATION_CHARACTERS = 64 * 1024 * 1024

/** Name of a tool: what a model can be expected to spell, and what cannot break a template. */
export const toolName = z
  .string({ error: 'a tool name' })
  .regex(/^[A-Za-z0-9_.-]{1,64}$/, { error: 'a tool name of 1 to 64 letters, digits, _ . or -' })

const parts = z
  .array(part, { error: 'an array of parts' })
  .max(MAX_PARTS, { error: `at most ${MAX_PARTS} parts` })

const content = z.union([z.string().transform(asText), parts], {
  error: 'a string or an array of parts',
})

function asText(text: string): z.output<typeof parts> {
  return [{ type: 'text', text }]
}

const CALL_ID = 'the id of a tool call: 1 to 128 letters, digits, _ . : or -'
/** Chat templates print ids as they are: nothing in one may look like a turn or a control token. */
const callId = z.string({ error: CALL_ID }).regex(/^[A-Za-z0-9_.:-]{1,128}$/, { error: CALL_ID })

const pastCall = strict({
  id: callId,
  tool: toolName,
  args: z.record(z.string(), z.unknown(), { error: 'an object of arguments' }).default({}),
})

/** One turn of a conversation; `content` may be a plain string. */
export const message = strict({
  role: z.enum(['system', 'user', 'assistant', 'tool'], {
    error: 'a role: system, user, assistant or tool',
  }),
  content: content.default([]),
  tool_calls: z.array(pastCall, { error: 'an array of tool calls' }).max(MAX_TOOLS).optional(),
  tool_call_id: callId.optional(),
})

const nonEmptyParts = parts.min(1, { error: 'at least one part' })

/** The request as users write it. */
export const requestSchema = strict({
  inputs: nonEmptyParts.optional(),
  messages: z
    .array(message, { error: 'an array of messages' })
    .min(1, { error: 'at least one message' })
    .max(MAX_MESSAGES, { error: `at most ${MAX_MESSAGES} messages` })
    .optional(),
  preferences: preferences.prefault({}),
  tools_allowed: z
    .array(toolName, { error: 'an array of tool names' })
    .max(MAX_TOOLS, { error: `at most ${MAX_TOOLS} tool names` })
    .optional(),
  outputs: z
    .array(z.enum(['text', 'image', 'audio', 'video'], { error: 'text, image, audio or video' }), {
      error: 'an array of text, image, audio and video',
    })
    .min(1, { error: 'at least one output' })
    .default(['text']),
}).refine((r) => (r.inputs === undefined) !== (r.messages === undefined), {
  error: 'exactly one of inputs and messages',
})

/** What {@link run} takes: `inputs` (one question) or `messages` (a conversation). */
export type RunRequest = z.input<typeof requestSchema>
/** One turn of a conversation, as users write it. */
export type Message = z.input<typeof message>
/** One turn with its content as parts. */
export type ResolvedMessage = z.output<typeof message>

/** A request with all defaults filled in and checked as a whole. */
export interface ResolvedRequest {
  messages: ResolvedMessage[]
  preferences: ResolvedPreferences
  /** Undefined: every tool that was given. */
  tools_allowed: string[] | undefined
  /** `inputs` or `messages`, as the user wrote it: names the place in later errors. */
  source: 'inputs' | 'messages'
}

/**
 * Checks a request and fills in the defaults.
 *
 * @throws MMError `MM_INVALID_REQUEST` with the path of the offending field, or
 * `MM_ENGINE_UNAVAILABLE` for outputs that no installed engine produces.
 */
export function parseRequest(value: unknown): ResolvedRequest {
  const request = parse(requestSchema, value, 'request')
  refuseOutputs(request.outputs)
  const source = request.inputs === undefined ? 'messages' : 'inputs'
  const messages: ResolvedMessage[] =
    request.inputs === undefined
      ? (request.messages ?? [])
      : [{ role: 'user', content: request.inputs }]
  checkConversation(messages, source)
  const seed = request.preferences.seed ?? randomInt(MAX_SEED + 1)
  return {
    messages,
    preferences: { ...request.preferences, seed },
    tools_allowed: request.tools_allowed,
    source,
  }
}

function refuseOutputs(outputs: string[]): void {
  const other = outputs.find((kind) => kind !== 'text')
  if (other === undefined) return
  throw unavailable(
    `outputs: ['${other}']`,
    `no decoder for ${other} is part of this build, only text is generated`,
    "leave out `outputs` or use ['text']",
  )
}

const nonEmpty = z.unknown().refine(() => false, { error: 'some text or media' })
const tooLong = z.unknown().refine(() => false, {
  error: `at most ${MAX_CONVERSATION_CHARACTERS} characters in all`,
})

function checkConversation(messages: ResolvedMessage[], source: string): void {
  let characters = 0
  let filled = false
  for (const turn of messages) {
    for (const piece of turn.content) {
      if (piece.type !== 'text') filled = true
      else if (piece.text !== '') {
        filled = true
        characters += piece.text.length
      }
    }
  }
  if (!filled) parse(nonEmpty, messages, source)
  if (characters > MAX_CONVERSATION_CHARACTERS) parse(tooLong, messages, source)
}
