import { type Command, InvalidArgumentError, Option } from 'commander'
import type { LoadOptions } from '../abi/load-options.js'
import { AT_ONCE, evaluateNano, type NanoReport } from './eval-nano.js'
import { Output } from './output.js'
import { addModelOptions, type ModelOptions } from './request-options.js'
import { withEngine } from './with-engine.js'

/** What a KV cache can hold: pages of a type, or llama.cpp's own memory (f16). */
const KV_DTYPES = ['bf16', 'int8', 'fp8', 'stock'] as const
type KvDtype = (typeof KV_DTYPES)[number]

const MAX_SEED = 0x7fff_ffff

const whole = (low: number, high: number) => (text: string) => {
  const value = Number(text)
  if (text.trim() === '' || !Number.isInteger(value) || value < low || value > high) {
    throw new InvalidArgumentError(`not a whole number from ${low} to ${high}`)
  }
  return value
}

interface EvalOptions extends ModelOptions {
  seed: number
  count: number
  showWrong?: boolean
  kvDtype?: KvDtype
}

/** Registers `mm eval nano`. */
export function addEvalCommand(program: Command): void {
  const evaluate = program.command('eval').description('measure a model on a suite')
  const nano = evaluate
    .command('nano')
    .description("P-Nano's tasks, generated from unseen seeds")
    .option('--seed <n>', 'first seed', whole(0, MAX_SEED), 1)
    .option('--count <k>', 'items of each task', whole(1, 100_000), 100)
    .option('--show-wrong', 'print wrong answers on stderr')
    .addOption(
      new Option(
        '--kv-dtype <type>',
        "type of the KV cache's pages; stock: llama.cpp's own memory",
      ).choices(KV_DTYPES),
    )
  addModelOptions(nano).action(nanoCommand)
}

async function nanoCommand(options: EvalOptions): Promise<void> {
  const output = new Output(options)
  const report = await withEngine(
    options,
    output,
    (engine) =>
      evaluateNano(
        engine,
        options.seed,
        options.count,
        (done, total) => output.progress(`${done} of ${total}`),
        ({ item, result }) => {
          if (options.showWrong !== true || result.text.trim() === item.answer.trim()) return
          output.note(
            `${item.task} ${item.seed}: ${JSON.stringify(result.text)}, expected ${JSON.stringify(item.answer)}`,
          )
        },
      ),
    { batch: { max_requests: AT_ONCE }, ...kvOptions(options.kvDtype) },
  )
  if (options.json === true) output.document(report)
  else print(report, output)
}

/** Pages of the wanted type or an error: another type's figures would be worth nothing. */
function kvOptions(dtype: KvDtype | undefined): LoadOptions {
  if (dtype === undefined) return {}
  return { kv: dtype === 'stock' ? { memory: 'stock' } : { memory: 'paged', dtype } }
}

function print(report: NanoReport, output: Output): void {
  for (const [task, { n, ...scores }] of Object.entries(report.tasks)) {
    const text = Object.entries(scores).map(([name, value]) => `${name} ${value.toFixed(3)}`)
    output.line(`${task.padEnd(12)} n ${n}  ${text.join('  ')}`)
  }
}
