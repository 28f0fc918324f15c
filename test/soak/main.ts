// `npm run soak [COUNT]`: 1,000 mixed requests. Fails when memory grows by more than 2 % at any time
// after the first tenth, with and without V8's heap, when anything ended unexpectedly, or when a
// handle is left.
//
// Two allocators keep freed memory as they see fit, which would hide or feign a leak of ours, so both
// are told to be regular: V8's young generation, which grows by 16 MiB at some point (the option is in
// package.json), and glibc's malloc, which keeps blocks in the arena of whichever of a dozen threads
// had them (the variable below). `npm run soak -- --plain` leaves them alone and only reports.
import { spawnSync } from 'node:child_process'
import { load } from '../../lib/index.js'
import { growth, type SoakReport, soak } from './soak.js'

const MAX_GROWTH = 0.02
const REGULAR = { MALLOC_MMAP_THRESHOLD_: String(128 * 1024) }

const args = process.argv.slice(2)
const plain = args.includes('--plain')
const isRegular = Object.entries(REGULAR).every(([name, value]) => process.env[name] === value)

if (plain || isRegular) {
  process.exitCode = await main(Number(args.find((arg) => !arg.startsWith('-')) ?? 1000))
} else {
  // malloc reads its settings before the program starts.
  const env = { ...process.env, ...REGULAR }
  const again = [...process.execArgv, ...process.argv.slice(1)]
  process.exitCode = spawnSync(process.execPath, again, { env, stdio: 'inherit' }).status ?? 1
}

async function main(count: number): Promise<number> {
  // A cache of encoder outputs that is full after a few dozen images: its growth is not a leak, and
  // eviction is exercised all along.
  const engine = await load(undefined, { media_cache_bytes: 1 << 20 })
  const report = await soak(engine, count)
  const { requests } = engine.stats()
  await engine.dispose()
  const problems = [...report.surprises, ...describeMemory(report), ...(await handlesLeft())]
  if (requests.running + requests.waiting > 0) problems.push('requests were left in the engine')
  for (const problem of problems) console.error(`problem: ${problem}`)
  return problems.length > 0 ? 1 : 0
}

/** Prints the memory; says what grew too much. */
function describeMemory(report: SoakReport): string[] {
  const { finished, cancelled, failed, memory } = report
  console.log(`finished ${finished}, cancelled ${cancelled}, failed as intended ${failed}`)
  const column = (key: keyof (typeof memory)[number], name: string) => {
    const values = memory.map((sample) => sample[key])
    const mib = values.map((bytes) => (bytes / 2 ** 20).toFixed(1)).join(' ')
    console.log(`${name}, MiB after each tenth: ${mib}  (${percent(growth(values))})`)
    return growth(values)
  }
  const grown = {
    'resident memory': column('resident', 'resident'),
    "resident memory outside V8's heap": column('outsideHeap', "outside V8's heap"),
  }
  column('heapUsed', 'objects in the heap')
  column('external', 'buffers')
  if (plain) return []
  return Object.entries(grown)
    .filter(([, share]) => !(share <= MAX_GROWTH))
    .map(([what, share]) => `${what} grew by ${percent(share)}`)
}

function percent(share: number): string {
  return `${share < 0 ? '' : '+'}${(100 * share).toFixed(2)} %`
}

async function handlesLeft(): Promise<string[]> {
  await new Promise((resolve) => setTimeout(resolve, 100))
  const handles = process
    .getActiveResourcesInfo()
    .filter((name) => !/^(TTY|Pipe|FileHandle)Wrap$/.test(name) && name !== 'Timeout')
  return handles.length === 0 ? [] : [`handles left: ${handles.join(', ')}`]
}
