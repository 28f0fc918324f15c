/** Ours: operations per second across the JavaScript border, by the `benchmark` package. */
import { load } from '../../lib/index.js'
import { nativeBinding } from '../../lib/native/load.js'
import { type BorderSpec, operationsPerSecond, TEXT } from './border.js'
import { printResult, trialSpec } from './print.js'

const spec = trialSpec<BorderSpec>()
await using engine = await load(spec.model, {
  threads: spec.threads,
  context_tokens: 512,
  batch: { max_requests: 1 },
})
const ids = await engine.tokenize(TEXT)
const token = nativeBinding().createCancelToken()

const operations: Record<BorderSpec['operation'], () => unknown> = {
  call: () => token.cancel(),
  tokenize: () => engine.tokenize(TEXT),
  detokenize: () => engine.detokenize(ids),
  request: () =>
    engine.run({ inputs: [{ type: 'text', text: 'a' }], preferences: { max_tokens: 1 } }),
}
printResult(await operationsPerSecond(spec.operation, operations[spec.operation]))
