import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { MMError } from '../errors.js'
import { fromNative } from '../native/call.js'
import { nativeBinding } from '../native/load.js'
import { type InspectKvOptions, inspectKv } from './inspect-kv.js'
import { Output, UsageError } from './output.js'
import { addModelOptions } from './request-options.js'

const MAX_REQUESTS = 64

/** What the native inspector reports; metadata values are as in the file, long arrays summarised. */
interface GgufReport {
  metadata?: Record<string, unknown>
  tensors?: { name: string; type: string; shape: number[]; bytes: number }[]
  [key: string]: unknown
}

interface InspectOptions extends InspectKvOptions {
  tensors?: boolean
  kv?: boolean
}

/** Registers `mm inspect`. */
export function addInspectCommand(program: Command): void {
  const command = program
    .command('inspect')
    .description('show what a GGUF file holds, without loading it, or with --kv the KV cache')
    .argument('[file]', 'a .gguf file')
    .option('--tensors', 'list every tensor')
    .option('--kv', 'run a small load and draw the pages of the KV cache')
    .option('--out <file>', 'with --kv: the SVG file to write (default: kv-pool.svg)')
    .addOption(
      new Option('--requests <n>', 'with --kv: requests that run at once (default: 6)').argParser(
        requestCount,
      ),
    )
  addModelOptions(command).action(inspectCommand)
}

function requestCount(text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= 1 && value <= MAX_REQUESTS) return value
  throw new InvalidArgumentError(`not a whole number from 1 to ${MAX_REQUESTS}`)
}

async function inspectCommand(file: string | undefined, options: InspectOptions): Promise<void> {
  const output = new Output(options)
  if (options.kv === true) {
    if (file !== undefined) throw new UsageError('--kv loads a model: give it with --model')
    return inspectKv(options, output)
  }
  if (file === undefined) throw new UsageError('expected a .gguf file, or --kv')
  const report = await inspect(resolve(file))
  if (options.json === true) output.document(report)
  else printReport(report, options.tensors === true, output)
}

async function inspect(path: string): Promise<GgufReport> {
  await stat(path).catch(() => {
    throw new MMError(
      'MM_MODEL_NOT_FOUND',
      `expected a GGUF file, received ${path} (no such file)`,
      {
        where: 'file',
        expected: 'a GGUF file',
        received: path,
      },
    )
  })
  try {
    return JSON.parse(await nativeBinding().inspectGguf(path)) as GgufReport
  } catch (error) {
    throw fromNative(error)
  }
}

function printReport(report: GgufReport, tensors: boolean, output: Output): void {
  const { metadata = {}, tensors: list = [], ...summary } = report
  printTable(flatten(summary), output)
  output.line('\nmetadata')
  printTable(Object.entries(metadata), output)
  if (!tensors) {
    output.line(`\n${list.length} tensors (--tensors lists them)`)
    return
  }
  output.line('\ntensors')
  const rows = list.map((t): [string, string] => [
    t.name,
    `${t.type} [${t.shape.join(', ')}] ${t.bytes} bytes`,
  ])
  printTable(rows, output)
}

function flatten(value: object, prefix = ''): [string, unknown][] {
  return Object.entries(value).flatMap(([key, inner]): [string, unknown][] =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? flatten(inner, `${prefix}${key}.`)
      : [[`${prefix}${key}`, inner]],
  )
}

/** Values come from a file nobody trusts: control characters must not reach the terminal. */
function printTable(rows: [string, unknown][], output: Output): void {
  const width = Math.min(48, Math.max(0, ...rows.map(([key]) => key.length)))
  for (const [key, value] of rows) {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    const safe = `${key.padEnd(width)}  ${text.length > 200 ? `${text.slice(0, 199)}…` : text}`
    output.line(safe.replace(/[\p{Cc}\u2028\u2029]/gu, '·'))
  }
}
