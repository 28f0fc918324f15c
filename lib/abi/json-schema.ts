/**
 * What a JSON Schema must look like before llama.cpp may turn it into a grammar. Its converter
 * follows `$ref` under `allOf` without looking whether it has been there, never returns from lengths
 * whose minimum exceeds their maximum, forgets large ones, and replaces a pattern it does not
 * understand by "any string". All are refused here: some would take the process down, with the others
 * the answer would not follow the schema. Patterns are rewritten, too (pattern.ts).
 */
import { compilePattern, MAX_REPETITION } from './pattern.js'

/** Deepest nesting, counted in JSON values and, with `$ref` followed, in schemas. */
export const MAX_SCHEMA_DEPTH = 64
/** Most schemas after every `allOf` has been expanded. */
export const MAX_SCHEMA_NODES = 10_000
/** Longest schema, characters of JSON. */
export const MAX_SCHEMA_LENGTH = 65_536
/** Most alternatives of one anyOf, oneOf, allOf, type or enum. */
export const MAX_ALTERNATIVES = 1024
/** Most properties of one object: llama.cpp's work grows with their third power. */
export const MAX_PROPERTIES = 256
/** Most different `$ref`. */
export const MAX_REFS = 256

export type JsonObject = Record<string, unknown>

/** Thrown inside this file; the message completes "expected …". */
class SchemaProblem extends Error {}

const TOO_DEEP = `a JSON Schema nested at most ${MAX_SCHEMA_DEPTH} deep and without cycles`
const TOO_LARGE = `a JSON Schema of at most ${MAX_SCHEMA_NODES} schemas, each allOf expanded`

/**
 * Checks a JSON Schema for what would crash or be silently ignored later.
 *
 * @returns the schema as it will be sent (a copy without anything JSON cannot hold), or what was
 * expected instead.
 */
export function checkJsonSchema(value: JsonObject): { schema: JsonObject } | { expected: string } {
  try {
    const schema = toJson(value)
    new Checker(schema).run()
    return { schema }
  } catch (error) {
    if (error instanceof SchemaProblem) return { expected: error.message }
    throw error
  }
}

/** What is checked must be what is sent: getters and toJSON() run once, here. */
function toJson(value: JsonObject): JsonObject {
  measure(value)
  let json: string | undefined
  try {
    json = JSON.stringify(value)
  } catch {
    throw new SchemaProblem('a JSON Schema that JSON can hold')
  }
  if (json === undefined || json.length > MAX_SCHEMA_LENGTH) {
    throw new SchemaProblem(`a JSON Schema of at most ${MAX_SCHEMA_LENGTH} characters`)
  }
  const copy: unknown = JSON.parse(json)
  if (!isObject(copy)) throw new SchemaProblem('a JSON Schema object')
  measure(copy)
  return copy
}

/** Refuses cycles of objects, deep nesting and shared objects that unfold into too many values. */
function measure(root: unknown): void {
  let values = 0
  const visit = (value: unknown, depth: number): void => {
    if (depth > MAX_SCHEMA_DEPTH) throw new SchemaProblem(TOO_DEEP)
    if (++values > MAX_SCHEMA_LENGTH) {
      throw new SchemaProblem(`a JSON Schema of at most ${MAX_SCHEMA_LENGTH} characters`)
    }
    if (typeof value !== 'object' || value === null) return
    for (const child of Object.values(value)) visit(child, depth + 1)
  }
  visit(root, 0)
}

/** Where a schema leads, apart from `$ref`. */
interface Parts {
  /** Apply to the same value: anyOf, oneOf, allOf. */
  same: JsonObject[]
  /** Members of the value: properties, additionalProperties, items, prefixItems. */
  inner: JsonObject[]
  /** `$ref` schemas llama.cpp expands in place: under allOf, directly or through anyOf. */
  merged: JsonObject[]
}

class Checker {
  readonly #parts = new Map<JsonObject, Parts>()
  readonly #targets = new Map<string, JsonObject>()

  constructor(private readonly root: JsonObject) {}

  run(): void {
    this.#collect(this.root, 0)
    const straight = new Search((node) => {
      const target = this.#target(node)
      return target === undefined ? this.#of(node).same : [target]
    }, 'a JSON Schema in which no $ref leads back to itself without properties or items between')
    const merging = new Search(
      (node) => this.#expansion(node),
      'a JSON Schema in which no $ref under allOf leads back to itself',
    )
    for (const node of this.#parts.keys()) {
      straight.size(node)
      merging.size(node)
    }
    let total = merging.size(this.root)
    for (const target of new Set(this.#targets.values())) total += merging.size(target)
    if (total > MAX_SCHEMA_NODES) throw new SchemaProblem(TOO_LARGE)
  }

  /** Visits every schema that can be reached and checks it by itself. */
  #collect(node: JsonObject, depth: number): void {
    if (this.#parts.has(node)) return
    if (depth > MAX_SCHEMA_DEPTH) throw new SchemaProblem(TOO_DEEP)
    const parts = partsOf(node)
    this.#parts.set(node, parts)
    const target = this.#target(node)
    if (target !== undefined) {
      this.#collect(target, depth + 1)
      return
    }
    preparePattern(node)
    checkCounts(node, 'minItems', 'maxItems')
    checkCounts(node, 'minLength', 'maxLength')
    checkBounds(node)
    for (const child of [...parts.same, ...parts.inner]) this.#collect(child, depth + 1)
  }

  #of(node: JsonObject): Parts {
    return this.#parts.get(node) as Parts
  }

  /** The schemas llama.cpp converts anew each time it comes to `node`; a plain $ref only once. */
  #expansion(node: JsonObject): JsonObject[] {
    if (Object.hasOwn(node, '$ref')) return []
    const { same, inner, merged } = this.#of(node)
    return [...same, ...inner, ...merged.map((ref) => this.#final(ref))]
  }

  /** The end of a chain of $ref, which is known not to be a circle by then. */
  #final(node: JsonObject): JsonObject {
    let end = node
    for (let i = 0; i <= MAX_REFS; i++) {
      const next = this.#target(end)
      if (next === undefined) return end
      end = next
    }
    return end
  }

  #target(node: JsonObject): JsonObject | undefined {
    if (!Object.hasOwn(node, '$ref')) return undefined
    const ref = node.$ref
    if (typeof ref !== 'string' || !ref.startsWith('#/')) {
      throw new SchemaProblem("a JSON Schema whose every $ref begins with '#/' (the same document)")
    }
    const known = this.#targets.get(ref)
    if (known !== undefined) return known
    if (this.#targets.size >= MAX_REFS) {
      throw new SchemaProblem(`a JSON Schema of at most ${MAX_REFS} different $ref`)
    }
    const target = resolve(this.root, ref)
    this.#targets.set(ref, target)
    return target
  }
}

/** Depth-first search that refuses circles and long paths, and counts what a node unfolds into. */
class Search {
  readonly #sizes = new Map<JsonObject, number>()
  readonly #open = new Set<JsonObject>()

  constructor(
    private readonly next: (node: JsonObject) => JsonObject[],
    private readonly circle: string,
  ) {}

  size(node: JsonObject): number {
    const known = this.#sizes.get(node)
    if (known !== undefined) return known
    if (this.#open.has(node)) throw new SchemaProblem(this.circle)
    if (this.#open.size > MAX_SCHEMA_DEPTH) throw new SchemaProblem(TOO_DEEP)
    this.#open.add(node)
    let size = 1
    for (const child of this.next(node)) size += this.size(child)
    this.#open.delete(node)
    // Doubling at each level would soon leave the exact integers.
    if (size > MAX_SCHEMA_NODES) throw new SchemaProblem(TOO_LARGE)
    this.#sizes.set(node, size)
    return size
  }
}

function partsOf(node: JsonObject): Parts {
  const all = alternatives(node, 'allOf')
  const any = [...alternatives(node, 'anyOf'), ...alternatives(node, 'oneOf')]
  alternatives(node, 'type')
  alternatives(node, 'enum')
  const branches = all.flatMap((child) => [
    child,
    ...alternatives(child, 'anyOf'),
    ...alternatives(child, 'oneOf'),
  ])
  return {
    same: [...any, ...all],
    inner: members(node),
    merged: branches.filter((child) => Object.hasOwn(child, '$ref')),
  }
}

function alternatives(node: JsonObject, key: string): JsonObject[] {
  const list = node[key]
  if (!Array.isArray(list)) return []
  if (list.length > MAX_ALTERNATIVES) {
    throw new SchemaProblem(`a JSON Schema of at most ${MAX_ALTERNATIVES} entries in each ${key}`)
  }
  return list.filter(isObject)
}

function members(node: JsonObject): JsonObject[] {
  const properties = isObject(node.properties) ? Object.values(node.properties) : []
  if (properties.length > MAX_PROPERTIES) {
    throw new SchemaProblem(`a JSON Schema of at most ${MAX_PROPERTIES} properties in each object`)
  }
  const lists = [node.items, node.prefixItems].flatMap((value) => value ?? [])
  return [...properties, node.additionalProperties, ...lists].filter(isObject)
}

/** Checks the pattern of a node, and replaces it by what llama.cpp can follow. */
function preparePattern(node: JsonObject): void {
  if (typeof node.pattern !== 'string') return
  const compiled = compilePattern(node.pattern)
  if ('problem' in compiled) {
    throw new SchemaProblem(`a JSON Schema whose patterns can be followed (${compiled.problem})`)
  }
  node.pattern = compiled.pattern
}

/** Lengths become repetitions of a grammar. */
function checkCounts(node: JsonObject, low: string, high: string): void {
  for (const key of [low, high]) {
    const value = node[key]
    if (value === undefined) continue
    if (!Number.isInteger(value) || Number(value) < 0 || Number(value) > MAX_REPETITION) {
      throw new SchemaProblem(
        `a JSON Schema whose every ${key} is a whole number from 0 to ${MAX_REPETITION}`,
      )
    }
  }
  if (Number(node[low] ?? 0) > Number(node[high] ?? MAX_REPETITION)) {
    throw new SchemaProblem(`a JSON Schema whose every ${low} is at most its ${high}`)
  }
}

/** Bounds of whole numbers are computed with 64 bits there; those of other numbers are not used. */
function checkBounds(node: JsonObject): void {
  if (![node.type].flat().includes('integer')) return
  // The inclusive bound wins where both are given.
  const low = bound(node, 'minimum') ?? bound(node, 'exclusiveMinimum')
  const high = bound(node, 'maximum') ?? bound(node, 'exclusiveMaximum')
  if (low === undefined || high === undefined) return
  const first = node.minimum === undefined ? Math.floor(low) + 1 : Math.ceil(low)
  const last = node.maximum === undefined ? Math.ceil(high) - 1 : Math.floor(high)
  if (first > last) {
    throw new SchemaProblem('a JSON Schema with a whole number between the bounds of every integer')
  }
}

function bound(node: JsonObject, key: string): number | undefined {
  const value = node[key]
  if (value === undefined) return undefined
  if (typeof value === 'number' && Math.abs(value) < Number.MAX_SAFE_INTEGER) return value
  throw new SchemaProblem(`a JSON Schema whose every ${key} is a number below 2^53`)
}

/** As llama.cpp does it: the parts between slashes are taken literally, without ~1 and %2F. */
function resolve(root: JsonObject, ref: string): JsonObject {
  let target: unknown = root
  for (const key of ref.slice(2).split('/')) {
    const isIndex = !Array.isArray(target) || /^\d{1,9}$/.test(key)
    const found = isIndex && typeof target === 'object' && target !== null
    target =
      found && Object.hasOwn(target as object, key) ? Reflect.get(target as object, key) : undefined
  }
  if (!isObject(target)) {
    throw new SchemaProblem(
      `a JSON Schema that has what $ref ${JSON.stringify(ref.slice(0, 60))} names`,
    )
  }
  return target
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
