/**
 * Compares this tree with llama.cpp's own programs and with node-llama-cpp:
 *
 *   npm run bench [-- NAME…] [--trials N] [--threads N] [--only TEXT,…] [--busy-machine] [--json FILE]
 *
 * NAME: decode, batch, ttft, border, event-loop, kv; none means all. See bench/README.md.
 */
import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { batch } from './cases/batch.js'
import { border } from './cases/border.js'
import type { Bench } from './cases/context.js'
import { decode } from './cases/decode.js'
import { eventLoop } from './cases/event-loop.js'
import { kv } from './cases/kv.js'
import { ttft } from './cases/ttft.js'
import { type Plan, type Row, runCase, type Watch } from './lib/compare.js'
import { currentCommit, describeMachine } from './lib/machine.js'
import { watchForeign } from './lib/quiet.js'
import { formatTable } from './lib/report.js'
import { MODEL_SHAPES, type ModelName } from './models/shapes.js'

const BENCHES: Record<string, Bench> = {
  decode,
  batch,
  ttft,
  border,
  'event-loop': eventLoop,
  kv,
}
const DEFAULT_TRIALS = 5

interface Arguments {
  names: string[]
  trials: number
  threads: number
  /** Only cases whose name contains one of these. */
  only: string[]
  /** Does not wait for other programs and does not repeat what they disturbed. */
  busyMachine: boolean
  json?: string
  /** A shape of bench/models/shapes.ts, for kv. */
  model?: ModelName
}

function readArguments(): Arguments {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'string' },
      only: { type: 'string', default: '' },
      model: { type: 'string' },
      'busy-machine': { type: 'boolean', default: false },
      trials: { type: 'string', default: String(DEFAULT_TRIALS) },
      threads: { type: 'string', default: String(availableParallelism()) },
    },
  })
  const unknown = positionals.filter((name) => !Object.hasOwn(BENCHES, name))
  if (unknown.length > 0) {
    throw new TypeError(`expected ${Object.keys(BENCHES).join(', ')}, got ${unknown.join(', ')}`)
  }
  const count = (name: 'trials' | 'threads'): number => {
    const value = Number(values[name])
    if (!Number.isInteger(value) || value < 1 || value > 512) {
      throw new TypeError(`--${name}: expected a whole number from 1 to 512, got ${values[name]}`)
    }
    return value
  }
  return {
    names: positionals.length > 0 ? positionals : Object.keys(BENCHES),
    trials: count('trials'),
    threads: count('threads'),
    busyMachine: values['busy-machine'],
    only: values.only.split(',').filter((text) => text !== ''),
    ...(values.json === undefined ? {} : { json: values.json }),
    ...(values.model === undefined ? {} : { model: modelName(values.model) }),
  }
}

function modelName(text: string): ModelName {
  if (Object.hasOwn(MODEL_SHAPES, text)) return text as ModelName
  throw new TypeError(`--model: expected ${Object.keys(MODEL_SHAPES).join(', ')}, got ${text}`)
}

const unwatched: Watch = async (trial) => [await trial(), 0]

/** Slow cases only when somebody names cases. */
function isWanted({ name, slow = false }: Plan, only: string[]): boolean {
  return only.length === 0 ? !slow : only.some((text) => name.includes(text))
}

async function run(options: Arguments): Promise<void> {
  const rows: Row[] = []
  const watch = options.busyMachine ? unwatched : watchForeign
  const report = () => ({
    machine: describeMachine(options.threads),
    commit: currentCommit(),
    rows,
  })
  for (const name of options.names) {
    for (const plan of (BENCHES[name] as Bench)(options)) {
      if (!isWanted(plan, options.only)) continue
      process.stderr.write(`${name}: ${plan.name}\n`)
      const print = (who: string, value: number, unit: string) =>
        process.stderr.write(`  ${who}: ${value.toPrecision(4)} ${unit}\n`)
      rows.push(...(await runCase(plan, options.trials, print, watch)))
      // After each case: a run that is interrupted keeps what it measured.
      if (options.json !== undefined) {
        writeFileSync(options.json, `${JSON.stringify(report(), null, 2)}\n`)
      }
    }
  }
  const { machine, commit } = report()
  console.log(`${machine.cpu}, ${machine.threads} threads, Node ${machine.node}, commit ${commit}`)
  console.log(`median of ${options.trials} trials; ratio above 1: ours is better\n`)
  console.log(formatTable(rows))
}

let options: Arguments
try {
  options = readArguments()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exit(2)
}
await run(options)
