/** node-llama-cpp: the same operations as ours-border.ts where it has them. */
import { type BorderSpec, operationsPerSecond, TEXT } from './border.js'
import { loadPeerModel } from './node-llama-cpp.js'
import { printResult, trialSpec } from './print.js'

const spec = trialSpec<BorderSpec & { folder: string }>()
const model = await loadPeerModel(spec.folder, spec.model, spec.threads)
const context = await model.createContext({ contextSize: 512, sequences: 1, threads: spec.threads })
const sequence = context.getSequence()
const ids = model.tokenize(TEXT)
const PROMPT = '<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>'

async function request(): Promise<string> {
  const prompt = model.tokenize(PROMPT, true)
  for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    await sequence.clearHistory()
    return model.detokenize([token])
  }
  throw new Error('expected a token')
}

const operations: Partial<Record<BorderSpec['operation'], () => unknown>> = {
  tokenize: () => model.tokenize(TEXT),
  detokenize: () => model.detokenize(ids),
  request,
}
const operation = operations[spec.operation]
if (operation === undefined) throw new Error(`node-llama-cpp has no ${spec.operation}`)
printResult(await operationsPerSecond(spec.operation, operation))
process.exit(0)
