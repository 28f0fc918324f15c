import { copyFile, mkdir, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Puts a built file into its place in one step: whoever looks there, and whoever kills the build,
 * finds the old file or the new one, never half of one.
 * @param {string} from
 * @param {string} to
 */
export async function publish(from, to) {
  await mkdir(dirname(to), { recursive: true })
  // Beside the target: only within one file system is renaming a single step.
  const part = `${to}.${process.pid}.part`
  try {
    await copyFile(from, part)
    await rename(part, to)
  } finally {
    await rm(part, { force: true })
  }
}
