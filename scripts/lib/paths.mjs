import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Root of the repository. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

/**
 * One short hash over names, sizes and modification times of files: enough to tell that nothing
 * changed since a build, without reading the files.
 * @param {string[]} paths files or folders, relative to the root; missing ones count as absent
 * @param {unknown} extra anything else the result depends on
 */
export function fingerprint(paths, extra = null) {
  const hash = createHash('sha256').update(JSON.stringify(extra))
  for (const path of paths) visit(join(ROOT, path), hash)
  return hash.digest('hex').slice(0, 24)
}

function visit(path, hash) {
  const info = statSync(path, { throwIfNoEntry: false })
  if (!info) return
  if (!info.isDirectory()) {
    hash.update(`${path}\0${info.size}\0${info.mtimeMs}\n`)
    return
  }
  for (const name of readdirSync(path).sort()) {
    if (name !== 'node_modules' && !name.startsWith('.')) visit(join(path, name), hash)
  }
}

/** The text of a file, or null when there is none. */
export function readIfThere(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : null
}
