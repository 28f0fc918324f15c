import type { RunRequest } from './abi/request.js'
import { Engine, engineLink } from './engine.js'
import { CallSite, mismatch } from './errors.js'
import { type Generation, type GenerationOptions, startGeneration } from './generation.js'
import { load } from './load.js'
import type { EngineLink } from './session.js'

/** Options of {@link run}. */
export interface RunOptions extends GenerationOptions {
  /** Where to run; without it, one shared engine on the embedded default model. */
  engine?: Engine | undefined
}

let shared: Promise<Engine> | undefined

/**
 * Answers a request: text, images and audio in, text out, tools called on the way.
 *
 * Returns at once; loading, decoding and generating go on in the background. Without `engine` the
 * embedded default model is loaded on first use and shared by all later calls; the process can still
 * exit by itself. Everything that fails, a malformed request included, reaches whoever consumes the
 * returned {@link Generation}.
 */
export function run(request: RunRequest, options: RunOptions = {}): Generation {
  const { engine, ...rest } = options ?? {}
  return startGeneration(request, rest, new CallSite(run), () => connect(engine))
}

async function connect(engine: unknown): Promise<EngineLink> {
  if (engine === undefined) return engineLink(await sharedEngine())
  if (engine instanceof Engine) return engineLink(engine)
  throw mismatch('MM_INVALID_REQUEST', {
    expected: 'an Engine made by load()',
    where: 'options.engine',
    received: engine,
  })
}

/** The shared engine. A failed load is forgotten, so that the next call tries again. */
function sharedEngine(): Promise<Engine> {
  if (shared === undefined) {
    const loading = load()
    shared = loading
    loading.catch(() => {
      if (shared === loading) shared = undefined
    })
  }
  return shared
}

/** Frees the shared engine, if there is one; the next run() loads it again. */
export async function disposeSharedEngine(): Promise<void> {
  const engine = shared
  shared = undefined
  await (await engine?.catch(() => undefined))?.dispose()
}
