import { type Command, InvalidArgumentError } from 'commander'
import { AT_ONCE, evaluateNano, type NanoReport } from './eval-nano.js'
import { Output } from './output.js'
import { addModelOptions, type ModelOptions } from './request-options.js'
import { withEngine } from './with-engine.js'

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
    { batch: { max_requests: AT_ONCE } },
  )
  if (options.json === true) output.document(report)
  else print(report, output)
}

function print(report: NanoReport, output: Output): void {
  for (const [task, { n, ...scores }] of Object.entries(report.tasks)) {
    const text = Object.entries(scores).map(([name, value]) => `${name} ${value.toFixed(3)}`)
    output.line(`${task.padEnd(12)} n ${n}  ${text.join('  ')}`)
  }
}
