import { cacheDir } from '../../third_party/lib/cache.mjs'

/** Where generated models and the peers of the benchmarks live, outside the tree. */
export const cacheFolder = (): string => cacheDir()
