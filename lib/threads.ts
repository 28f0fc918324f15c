import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

/** Model files below this size are computed by one thread unless told otherwise, bytes. */
export const SMALL_MODEL_BYTES = 64 * 1024 * 1024
/** Most threads that are chosen without being asked for. */
export const MAX_DEFAULT_THREADS = 8

/**
 * Compute threads for a model when nobody said how many.
 *
 * A step of a small model is over before a second thread has found its share. And threads of one
 * graph wait for each other by spinning, hundreds of times a token: one that loses its core to
 * another program holds up all the others, so that more threads than cores are much slower than one.
 *
 * @param modelBytes size of the model's file.
 * @param cores physical cores this process may use.
 */
export function defaultThreads(modelBytes: number, cores = physicalCores()): number {
  if (modelBytes < SMALL_MODEL_BYTES) return 1
  return Math.max(1, Math.min(cores, MAX_DEFAULT_THREADS))
}

/** Physical cores, as far as this process may use them. Two threads of a core share what computes. */
function physicalCores(): number {
  const usable = availableParallelism()
  return Math.min(usable, linuxCores() ?? usable)
}

/** Cores that are online by what Linux says, undefined elsewhere. */
function linuxCores(folder = '/sys/devices/system/cpu'): number | undefined {
  try {
    const cores = new Set<string>()
    for (const cpu of parseCpuList(readFileSync(`${folder}/online`, 'utf8'))) {
      cores.add(readFileSync(`${folder}/cpu${cpu}/topology/thread_siblings_list`, 'utf8'))
    }
    return cores.size === 0 ? undefined : cores.size
  } catch {
    return undefined
  }
}

/** Numbers of a list such as `0-3,8`. */
export function parseCpuList(list: string): number[] {
  return [...list.matchAll(/(\d+)(?:-(\d+))?/g)].flatMap(([, low, high]) => {
    const first = Number(low)
    const count = Math.max(0, Number(high ?? low) - first + 1)
    return Array.from({ length: count }, (_, i) => first + i)
  })
}
