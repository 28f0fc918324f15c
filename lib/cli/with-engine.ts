import type { LoadOptions } from '../abi/load-options.js'
import type { Engine } from '../engine.js'
import { load } from '../load.js'
import { loadSharp } from '../media/image.js'
import type { Output } from './output.js'
import { loadOptionsOf, type ModelOptions, sourceOf } from './request-options.js'

/** Loads the model the options name, runs `work` and frees the model whatever happens. */
export async function withEngine<T>(
  options: ModelOptions & { image?: string[] },
  output: Output,
  work: (engine: Engine) => Promise<T>,
  extra: LoadOptions = {},
): Promise<T> {
  // The decoder's library takes as long to load as a small model: let both happen at once.
  if (options.image !== undefined && options.image.length > 0) void loadSharp().catch(() => {})
  const engine = await load(sourceOf(options), {
    ...loadOptionsOf(options),
    ...extra,
    on_progress: (fraction) => output.progress(`loading model ${Math.round(100 * fraction)} %`),
  })
  output.clearProgress()
  try {
    return await work(engine)
  } finally {
    await engine.dispose()
  }
}

/**
 * An AbortSignal that Ctrl-C aborts while `work` runs; a second Ctrl-C ends the program the usual
 * way, should cancelling itself hang.
 */
export async function withInterrupt<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const onInterrupt = () => controller.abort()
  process.once('SIGINT', onInterrupt)
  try {
    return await work(controller.signal)
  } finally {
    process.removeListener('SIGINT', onInterrupt)
  }
}
