// `npm run soak [COUNT]`: 1,000 mixed requests. Fails when resident memory grows by more than 2 %
// after the first tenth, when anything ended unexpectedly, or when a handle is left. The script in
// package.json limits V8's young generation: left alone it grows by 16 MiB at some point, which
// would hide or feign a leak of ours.
import { load } from '../../lib/index.js'
import { TEST_THREADS } from '../helpers/real.js'
import { soak } from './soak.js'

const count = Number(process.argv[2] ?? 1000)
const MAX_GROWTH = 0.02

// A cache of encoder outputs that is full after a few dozen images: its growth is not a leak, and
// eviction is exercised all along.
const engine = await load(undefined, { threads: TEST_THREADS, media_cache_bytes: 1 << 20 })
const report = await soak(engine, count)
const { requests } = engine.stats()
await engine.dispose()

const [first = 0] = report.rss
const last = report.rss.at(-1) ?? 0
const growth = last / first - 1
const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1)
console.log(
  `finished ${report.finished}, cancelled ${report.cancelled}, failed as intended ${report.failed}`,
)
console.log(`resident MiB after each tenth: ${report.rss.map(mib).join(' ')}`)
console.log(`growth after the first tenth: ${(100 * growth).toFixed(2)} %`)

const problems = [...report.surprises]
if (growth > MAX_GROWTH) problems.push(`resident memory grew by ${(100 * growth).toFixed(2)} %`)
if (requests.running + requests.waiting > 0) problems.push('requests were left in the engine')
await new Promise((resolve) => setTimeout(resolve, 100))
const handles = process
  .getActiveResourcesInfo()
  .filter((name) => !/^(TTY|Pipe|FileHandle)Wrap$/.test(name) && name !== 'Timeout')
if (handles.length > 0) problems.push(`handles left: ${handles.join(', ')}`)
for (const problem of problems) console.error(`problem: ${problem}`)
process.exitCode = problems.length > 0 ? 1 : 0
