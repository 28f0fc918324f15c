import Benchmark from 'benchmark'

export interface BorderSpec {
  model: string
  threads: number
  /**
   * `call`: the cheapest native function. `tokenize`, `detokenize`: 24 tokens of text. `request`: a
   * whole generation of one token on a tiny model, most of which is not the model.
   */
  operation: 'call' | 'tokenize' | 'detokenize' | 'request'
}

export const TEXT = 'ab cd ef gh ij kl mn op qr st uv wx yz ab cd ef gh ij kl mn op qr st uv'

/** Runs `operation` under the `benchmark` package; promises are awaited one after the other. */
export function operationsPerSecond(
  name: string,
  operation: () => unknown,
): Promise<{ operations_per_second: number; samples: number; margin_percent: number }> {
  const asynchronous = isThenable(operation())
  const run = asynchronous
    ? (deferred: { resolve(): void }) => {
        Promise.resolve(operation() as PromiseLike<unknown>).then(
          () => deferred.resolve(),
          (error: unknown) => {
            throw error
          },
        )
      }
    : () => operation()
  return new Promise((done, fail) => {
    const benchmark = new Benchmark(name, run, { defer: asynchronous, minSamples: 20, maxTime: 3 })
    benchmark.on('error', () =>
      fail(new Error(`${name}: ${String(Reflect.get(benchmark, 'error'))}`)),
    )
    benchmark.on('complete', () =>
      done({
        operations_per_second: benchmark.hz,
        samples: benchmark.stats.sample.length,
        margin_percent: benchmark.stats.rme,
      }),
    )
    benchmark.run({ async: true })
  })
}

function isThenable(value: unknown): boolean {
  return (
    typeof value === 'object' && value !== null && typeof Reflect.get(value, 'then') === 'function'
  )
}
