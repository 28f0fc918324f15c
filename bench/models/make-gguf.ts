/**
 * Writes GGUF files with the shape of published models and random weights. Speed depends on the
 * shape and the types, not on what the numbers mean, so these stand in for real models:
 *
 *   npx tsx bench/models/make-gguf.ts qwen2-0.5b [--type q4_0|q8_0|f16] [--seed N] [--out FILE]
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { cacheFolder } from '../lib/cache.js'
import { writeGguf } from './gguf-writer.js'
import { fillTensor, RandomBits } from './random-weights.js'
import {
  MODEL_SHAPES,
  type ModelName,
  type ModelShape,
  modelMetadata,
  tensorPlans,
  type WeightType,
} from './shapes.js'

/** Raise it when the bytes of a file change: cached files of an older version are not used. */
const GENERATOR_VERSION = 1
const WEIGHT_TYPES: readonly string[] = ['q4_0', 'q8_0', 'f16']

export interface MakeOptions {
  /** Default `q4_0`. */
  weights?: WeightType
  /** Default 1. The same seed gives the same bytes. */
  seed?: number
}

/** Writes one model to `path`, replacing what is there. */
export async function makeModel(
  name: ModelName,
  path: string,
  { weights = 'q4_0', seed = 1 }: MakeOptions = {},
): Promise<void> {
  const shape: ModelShape = MODEL_SHAPES[name]
  const random = new RandomBits(seed)
  await writeGguf(
    path,
    modelMetadata(name, shape, weights),
    tensorPlans(shape, weights),
    (tensor, chunk) => fillTensor(random, tensor, chunk),
  )
}

/** The path of a model in the cache folder; writes it first when it is not there. */
export async function cachedModel(name: ModelName, options: MakeOptions = {}): Promise<string> {
  const { weights = 'q4_0', seed = 1 } = options
  const file = `${name}-${weights}-seed${seed}-v${GENERATOR_VERSION}.gguf`
  const path = join(cacheFolder(), 'bench-models', file)
  if (!existsSync(path)) {
    process.stderr.write(`writing ${path}\n`)
    await makeModel(name, path, options)
  }
  return path
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      type: { type: 'string', default: 'q4_0' },
      seed: { type: 'string', default: '1' },
      out: { type: 'string' },
    },
  })
  const [name] = positionals
  const seed = Number(values.seed)
  if (
    positionals.length !== 1 ||
    name === undefined ||
    !Object.hasOwn(MODEL_SHAPES, name) ||
    !WEIGHT_TYPES.includes(values.type) ||
    !Number.isInteger(seed)
  ) {
    console.error(
      `usage: make-gguf.ts ${Object.keys(MODEL_SHAPES).join('|')} ` +
        `[--type ${WEIGHT_TYPES.join('|')}] [--seed N] [--out FILE]`,
    )
    process.exitCode = 2
    return
  }
  const options: MakeOptions = { weights: values.type as WeightType, seed }
  if (values.out === undefined) {
    console.log(await cachedModel(name as ModelName, options))
  } else {
    await makeModel(name as ModelName, values.out, options)
    console.log(values.out)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main()
