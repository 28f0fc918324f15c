import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { MMError } from '../errors.js'
import { fromNative } from '../native/call.js'
import { nativeBinding } from '../native/load.js'
import { type CommonOptions, Output } from './output.js'
import { addCommonOptions } from './request-options.js'

/** What the native inspector reports; metadata values are as in the file, long arrays summarised. */
interface GgufReport {
  metadata?: Record<string, unknown>
  tensors?: { name: string; type: string; shape: number[]; bytes: number }[]
  [key: string]: unknown
}

/** Registers `mm inspect`. */
export function addInspectCommand(program: Command): void {
  const command = program
    .command('inspect')
    .description('show what a GGUF file holds, without loading it')
    .argument('<file>', 'a .gguf file')
    .option('--tensors', 'list every tensor')
  addCommonOptions(command).action(inspectCommand)
}

async function inspectCommand(
  file: string,
  options: CommonOptions & { tensors?: boolean },
): Promise<void> {
  const output = new Output(options)
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
