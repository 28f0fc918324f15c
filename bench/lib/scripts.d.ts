// Types of the build scripts that the benchmarks use; the scripts themselves are plain JavaScript.
declare module '*/third_party/lib/cache.mjs' {
  /** `$POLYMIND_CACHE`, else the platform's cache folder. */
  export function cacheDir(): string
}
