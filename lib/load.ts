import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { type LoadOptions, parseLoadOptions, type ResolvedLoadOptions } from './abi/load-options.js'
import { parse } from './abi/parse.js'
import { strict } from './abi/strict.js'
import { type Engine, openEngine } from './engine.js'
import { CallSite, MMError, unavailable } from './errors.js'
import type { NativeLoadOptions } from './native/binding.js'
import { fromNative } from './native/call.js'
import { nativeBinding } from './native/load.js'
import { packageRoot } from './package-root.js'
import { defaultThreads } from './threads.js'

const path = z
  .string({ error: 'a path' })
  .min(1, { error: 'a non-empty path' })
  .refine((value) => !value.includes('\0'), { error: 'a path without NUL characters' })

const sourceSchema = z.union(
  [path, strict({ model: path, mmproj: path.optional(), draft: path.optional() })],
  { error: 'the path of a GGUF file, or { model, mmproj?, draft? }' },
)

/** A `.gguf` path, or model and projector. A path alone loads no projector. */
export type LoadSource = z.input<typeof sourceSchema>

/** The files of a model, absolute. */
export interface ModelFiles {
  model: string
  /** '' when there is none. */
  mmproj: string
}

interface FoundFiles extends ModelFiles {
  /** Size of the model's file. */
  bytes: number
}

/**
 * Loads a model.
 *
 * @param source nothing: the embedded default P-Nano (text and images); a `.gguf` path; or
 * `{ model, mmproj? }`.
 * @throws MMError `MM_MODEL_NOT_FOUND`, `MM_MODEL_INVALID` (damaged or unsupported file),
 * `MM_ABI_MISMATCH` (projector of another model), `MM_OUT_OF_MEMORY`, `MM_INVALID_REQUEST` (options),
 * `MM_ENGINE_UNAVAILABLE` (what this build cannot do, or the addon is missing); `signal.reason`.
 */
export async function load(source?: LoadSource, options: LoadOptions = {}): Promise<Engine> {
  const site = new CallSite(load)
  try {
    return await open(source, parseLoadOptions(options))
  } catch (error) {
    // A reason of the user's signal is handed back as it came.
    if (options?.signal?.aborted === true && error === options.signal.reason) throw error
    throw site.adopt(fromNative(error))
  }
}

async function open(source: LoadSource | undefined, options: ResolvedLoadOptions): Promise<Engine> {
  const files = await resolveSource(source)
  return openEngine(
    nativeBinding(),
    nativeOptions(files, options),
    options.signal,
    guardedProgress(options.on_progress),
  )
}

/** A throwing progress callback must not take the process down from inside a native callback. */
function guardedProgress(callback: ((fraction: number) => void) | undefined) {
  return (fraction: number) => {
    try {
      callback?.(fraction)
    } catch (error) {
      process.emitWarning(`on_progress threw: ${String(error)}`, 'PolymindWarning')
    }
  }
}

function nativeOptions(files: FoundFiles, options: ResolvedLoadOptions): NativeLoadOptions {
  return {
    model: files.model,
    mmproj: files.mmproj,
    threads: options.threads ?? defaultThreads(files.bytes),
    context_tokens: options.context_tokens ?? 0,
    max_requests: options.batch.max_requests,
    tokens_per_step: options.batch.tokens_per_step,
    kv: nativeKv(options.kv),
    media_cache_bytes: options.media_cache_bytes,
  }
}

function nativeKv(kv: ResolvedLoadOptions['kv']): NativeLoadOptions['kv'] {
  const { memory, dtype, prefix_cache } = kv
  const { k, v } = typeof dtype === 'string' ? { k: dtype, v: dtype } : dtype
  const spill = { spill_dir: kv.spill?.dir ?? '', spill_bytes: kv.spill?.bytes ?? 0 }
  return { memory, k, v, budget_bytes: kv.budget_bytes ?? 0, prefix_cache, ...spill }
}

/** Where the embedded default lies. */
export function defaultModel(): ModelFiles {
  const folder = join(packageRoot(), 'models', 'p-nano')
  return { model: join(folder, 'p-nano.gguf'), mmproj: join(folder, 'p-nano-mmproj.gguf') }
}

/**
 * Turns a source into files that exist.
 *
 * @throws MMError `MM_MODEL_NOT_FOUND`, `MM_INVALID_REQUEST`, `MM_ENGINE_UNAVAILABLE`
 */
export async function resolveSource(source: LoadSource | undefined): Promise<FoundFiles> {
  if (source === undefined) {
    const files = defaultModel()
    const bytes = await requireFile(files.model, 'the embedded default model')
    await requireFile(files.mmproj, 'the projector of the embedded default model')
    return { ...files, bytes }
  }
  const checked = parse(sourceSchema, source, 'source')
  const given = typeof checked === 'string' ? { model: checked } : checked
  if (given.draft !== undefined) {
    throw unavailable('source.draft', 'speculative decoding is not part of this build yet')
  }
  const model = resolve(given.model)
  const bytes = await requireFile(model, 'source.model')
  if (given.mmproj === undefined) return { model, mmproj: '', bytes }
  const mmproj = resolve(given.mmproj)
  await requireFile(mmproj, 'source.mmproj')
  return { model, mmproj, bytes }
}

/** The size of a file that must be there. */
async function requireFile(file: string, where: string): Promise<number> {
  const status = await stat(file).catch((error: NodeJS.ErrnoException) => {
    throw new MMError(
      'MM_MODEL_NOT_FOUND',
      `expected a readable GGUF file for ${where}, received ${file} (${reasonOf(error)})`,
      { where, expected: 'a readable GGUF file', received: file, reason: reasonOf(error) },
    )
  })
  if (status.isFile()) return status.size
  if (status.isDirectory()) {
    throw unavailable(
      `loading the folder ${file}`,
      'bundles arrive with `mm assemble`, which is not part of this build yet',
      'give the path of a .gguf file',
    )
  }
  throw new MMError(
    'MM_MODEL_NOT_FOUND',
    `expected a regular file for ${where}, received a device, pipe or socket: ${file}`,
    { where, expected: 'a regular file', received: file },
  )
}

function reasonOf(error: NodeJS.ErrnoException): string {
  return error.code === 'ENOENT' || error.code === 'ENOTDIR'
    ? 'no such file'
    : (error.code ?? error.message)
}
