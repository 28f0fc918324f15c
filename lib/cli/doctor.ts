import { existsSync } from 'node:fs'
import type { EngineInfo } from '../engine.js'
import { isMMError } from '../errors.js'
import { defaultModel, type LoadSource, load } from '../load.js'
import { loadSharp } from '../media/image.js'
import type { NativeBuildInfo } from '../native/binding.js'
import { loadAddon } from '../native/load.js'

/** Something this machine and build can do or cannot, and why. */
export interface Ability {
  available: boolean
  version: string | null
  /** Why it is not available; null when it is. */
  reason: string | null
}

/** The document of `mm doctor --json`. */
export interface DoctorReport {
  /** Version of Node, e.g. `v20.19.0`. */
  node: string
  platform: string
  addon: Ability & { path: string | null; build: NativeBuildInfo | null }
  cpu: { features: string[] }
  engines: { llama: Ability; onnx: Ability; executorch: Ability }
  gpu: { available: boolean; reason: string }
  /** The embedded default model. */
  model: { available: boolean; path: string; reason: string | null }
  /**
   * The KV cache that the model gets here: which kernels read its pages, or why it has llama.cpp's
   * own memory. Null with a reason when the model does not load.
   */
  kv: { info: EngineInfo['kv'] | null; reason: string | null }
  /** The image decoder. */
  sharp: Ability
}

const yes = (version: string): Ability => ({ available: true, version, reason: null })
const no = (reason: string): Ability => ({ available: false, version: null, reason })

/**
 * Finds out what this machine and build can do. Never throws.
 *
 * @param source whose KV cache is looked at; default: the embedded model.
 */
export async function examine(source?: LoadSource): Promise<DoctorReport> {
  const addon = examineAddon()
  const build = addon.build
  return {
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    addon,
    cpu: { features: build?.cpu_features ?? [] },
    engines: {
      llama: build === null ? no('the native addon does not load') : yes(build.llama),
      onnx: no('the ONNX Runtime host is not part of this build yet'),
      executorch: no('the ExecuTorch host is not part of this build yet'),
    },
    gpu: { available: false, reason: 'this build has no GPU backend' },
    model: examineModel(),
    kv: await examineKv(source),
    sharp: await examineSharp(),
  }
}

function examineAddon(): DoctorReport['addon'] {
  try {
    const { binding, path } = loadAddon()
    const build = binding.buildInfo()
    return { ...yes(build.version), path, build }
  } catch (error) {
    return { ...no(messageOf(error)), path: null, build: null }
  }
}

function examineModel(): DoctorReport['model'] {
  const files = defaultModel()
  const missing = [files.model, files.mmproj].find((file) => !existsSync(file))
  const reason = missing === undefined ? null : `no such file: ${missing}`
  return { available: missing === undefined, path: files.model, reason }
}

/** Loads the model: what a machine chooses is known for certain only then. */
async function examineKv(source: LoadSource | undefined): Promise<DoctorReport['kv']> {
  try {
    const engine = await load(source, { threads: 1, context_tokens: 512 })
    try {
      return { info: engine.info().kv, reason: null }
    } finally {
      await engine.dispose()
    }
  } catch (error) {
    return { info: null, reason: messageOf(error).split('\n')[0] ?? '' }
  }
}

async function examineSharp(): Promise<Ability> {
  try {
    return yes((await loadSharp()).versions.sharp ?? 'unknown')
  } catch (error) {
    return no(messageOf(error))
  }
}

function messageOf(error: unknown): string {
  return isMMError(error) || error instanceof Error ? error.message : String(error)
}
