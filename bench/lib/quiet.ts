import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

/** Share of all cores that other programs may use during a trial before it is repeated. */
export const FOREIGN_LIMIT = 0.05
const TICKS_PER_SECOND = 100

/** Milliseconds that all cores together were busy since the machine started. */
function busyMs(): number {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0)
}

/** Milliseconds of processor time of this process and of its children that have ended. */
function ownMs(): number {
  // Everything behind the name, which may hold spaces: state is field 3, utime field 14.
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ').at(-1)?.split(' ') ?? []
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0)
  return (ticks / TICKS_PER_SECOND) * 1000
}

const WAIT_LIMIT_MS = 60_000
const WINDOW_MS = 500

/** Waits until the machine was idle for half a second, at most a minute. */
async function waitForQuiet(): Promise<void> {
  const deadline = performance.now() + WAIT_LIMIT_MS
  while (performance.now() < deadline) {
    const busy = busyMs()
    await sleep(WINDOW_MS)
    if ((busyMs() - busy) / (WINDOW_MS * cpus().length) <= FOREIGN_LIMIT) return
  }
}

/**
 * Waits for a quiet machine, runs a trial and tells what share of all cores other programs used meanwhile. Where the system
 * does not say (other than Linux), the share is 0.
 */
export async function watchForeign<T>(trial: () => Promise<T>): Promise<[T, number]> {
  if (process.platform !== 'linux') return [await trial(), 0]
  await waitForQuiet()
  const [busy, own, started] = [busyMs(), ownMs(), performance.now()]
  const result = await trial()
  const foreign = busyMs() - busy - (ownMs() - own)
  const available = (performance.now() - started) * cpus().length
  return [result, Math.max(0, foreign / available)]
}
