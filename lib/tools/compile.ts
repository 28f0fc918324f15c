import { createRequire } from 'node:module'
import type { Ajv2020 as Ajv } from 'ajv/dist/2020.js'
import { z } from 'zod'
import { toolName } from '../abi/request.js'
import { unknownFields } from '../abi/strict.js'
import { MMError, mismatch } from '../errors.js'
import type { JsonSchema, Tool, ToolContext, ToolDefinition, Tools } from './tool.js'

// Loaded on first use: programs without JSON Schema tools do not pay for it at start.
const requireModule = createRequire(import.meta.url)

/** Default of `timeout_ms`. */
export const TOOL_TIMEOUT_MS = 10_000
const MAX_TIMEOUT_MS = 86_400_000

/** A tool ready to be called: its arguments are checked by `check`. */
export interface CompiledTool {
  name: string
  description: string
  /** JSON Schema of the arguments, as the model sees it. */
  parameters: JsonSchema
  timeout_ms: number
  /** Returns the arguments (with a schema's defaults and conversions), or throws an Error. */
  check(args: Record<string, unknown>): unknown
  execute(args: unknown, context: ToolContext): unknown
}

/**
 * Checks the tools given to run() and compiles their schemas.
 *
 * @throws MMError `MM_INVALID_REQUEST` naming the tool and the field.
 */
export function compileTools(tools: Tools | undefined): Map<string, CompiledTool> {
  const compiled = new Map<string, CompiledTool>()
  if (tools === undefined) return compiled
  if (typeof tools !== 'object' || tools === null || Array.isArray(tools)) {
    throw mismatch('MM_INVALID_REQUEST', {
      expected: 'an object of tools by name',
      where: 'tools',
      received: tools,
    })
  }
  for (const [name, tool] of Object.entries(tools)) compiled.set(name, compileTool(name, tool))
  return compiled
}

function compileTool(name: string, tool: Tool): CompiledTool {
  const where = `tools.${name}`
  if (!toolName.safeParse(name).success) {
    throw mismatch('MM_INVALID_REQUEST', {
      expected: 'a tool name of 1 to 64 letters, digits, _ . or -',
      where,
      received: name,
    })
  }
  const definition: ToolDefinition = typeof tool === 'function' ? { execute: tool } : tool
  checkDefinition(definition, name, where)
  return {
    name,
    description: definition.description ?? '',
    timeout_ms: definition.timeout_ms ?? TOOL_TIMEOUT_MS,
    // Called on the definition, so that a class instance keeps its `this`.
    execute: (args, context) => definition.execute(args as Record<string, unknown>, context),
    ...compileParameters(definition.parameters, where),
  }
}

const KNOWN_FIELDS = ['name', 'description', 'parameters', 'execute', 'timeout_ms']

function checkDefinition(tool: ToolDefinition, name: string, where: string): void {
  const wrong = (field: string, expected: string, received: unknown) =>
    mismatch('MM_INVALID_REQUEST', { expected, where: `${where}${field}`, received })
  if (typeof tool !== 'object' || tool === null) throw wrong('', 'a tool or a function', tool)
  const unknown = Object.keys(tool).filter((key) => !KNOWN_FIELDS.includes(key))
  if (unknown.length > 0 && Object.getPrototypeOf(tool) === Object.prototype) {
    const message = `${unknownFields(unknown, KNOWN_FIELDS)} in ${where}`
    throw new MMError('MM_INVALID_REQUEST', message, { where, fields: unknown })
  }
  if (typeof tool.execute !== 'function') throw wrong('.execute', 'a function', tool.execute)
  if (tool.name !== undefined && tool.name !== name) {
    throw wrong('.name', `the key '${name}' it is given under`, tool.name)
  }
  if (tool.description !== undefined && typeof tool.description !== 'string') {
    throw wrong('.description', 'a string', tool.description)
  }
  const time = tool.timeout_ms
  if (time !== undefined && !(typeof time === 'number' && time >= 1 && time <= MAX_TIMEOUT_MS)) {
    throw wrong('.timeout_ms', `a number from 1 to ${MAX_TIMEOUT_MS}`, time)
  }
}

type Parameters = Pick<CompiledTool, 'parameters' | 'check'>

function compileParameters(parameters: ToolDefinition['parameters'], where: string): Parameters {
  if (parameters === undefined) return { parameters: { type: 'object' }, check: (args) => args }
  if (typeof parameters !== 'object' || parameters === null) {
    throw mismatch('MM_INVALID_REQUEST', {
      expected: 'a zod schema or a JSON Schema',
      where: `${where}.parameters`,
      received: parameters,
    })
  }
  return isZod(parameters)
    ? compileZod(parameters, where)
    : compileJsonSchema(parameters as JsonSchema, where)
}

/** By shape, not by class: users may have their own copy of zod 4. */
function isZod(parameters: object): parameters is z.ZodType {
  return '_zod' in parameters && 'safeParse' in parameters
}

function compileZod(schema: z.ZodType, where: string): Parameters {
  try {
    // 'input': the model writes what goes into the schema, before defaults and conversions.
    const { $schema: _, ...parameters } = z.toJSONSchema(schema, { io: 'input' })
    return { parameters, check: (args) => checkZod(schema, args) }
  } catch (error) {
    throw notCompiled(error, where)
  }
}

function checkZod(schema: z.ZodType, args: unknown): unknown {
  const result = schema.safeParse(args)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new Error(`${['args', ...(issue?.path ?? [])].join('.')}: ${issue?.message}`)
}

function compileJsonSchema(schema: JsonSchema, where: string): Parameters {
  if ('_def' in schema) {
    throw mismatch('MM_INVALID_REQUEST', {
      expected: 'a zod 4 schema or a JSON Schema',
      where: `${where}.parameters`,
      actual: 'a schema of another library or an older zod',
    })
  }
  try {
    // $schema is dropped: a draft ajv has not been told about would be an error, and the keywords
    // tools use mean the same in all of them.
    const { $schema: _, ...parameters } = schema
    const { Ajv2020 } = requireModule('ajv/dist/2020.js') as { Ajv2020: typeof Ajv }
    const validate = new Ajv2020({ strict: false, allErrors: false }).compile(parameters)
    const check = (args: Record<string, unknown>) => {
      if (validate(args)) return args
      const issue = validate.errors?.[0]
      throw new Error(`args${issue?.instancePath.replaceAll('/', '.')}: ${issue?.message}`)
    }
    return { parameters, check }
  } catch (error) {
    throw notCompiled(error, where)
  }
}

function notCompiled(error: unknown, where: string): MMError {
  const reason = error instanceof Error ? error.message : String(error)
  return new MMError(
    'MM_INVALID_REQUEST',
    `expected a schema that can be compiled for ${where}.parameters: ${reason}`,
    { where: `${where}.parameters`, reason },
  )
}
