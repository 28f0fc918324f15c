import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MMError } from './errors.js'

let cached: string | undefined

/**
 * The folder of this package: the nearest one upwards whose package.json carries our name. Found by
 * walking rather than by a fixed `../..`, because sources (lib/x/y.ts) and bundles (dist/y.js) lie
 * at different depths.
 */
export function packageRoot(): string {
  cached ??= search(dirname(fileURLToPath(import.meta.url)))
  return cached
}

/** `version` of our package.json. */
export function packageVersion(): string {
  return readManifest(packageRoot())?.version ?? '0.0.0'
}

function search(start: string): string {
  for (let folder = start; ; folder = dirname(folder)) {
    if (readManifest(folder)?.name === 'polymind-native') return folder
    if (dirname(folder) === folder) break
  }
  throw new MMError(
    'MM_INTERNAL',
    `expected a package.json named polymind-native above ${start}, found none: was the code bundled without it?`,
    { where: start, hint: 'mark polymind-native as external in your bundler' },
  )
}

function readManifest(folder: string): { name?: string; version?: string } | undefined {
  const file = join(folder, 'package.json')
  if (!existsSync(file)) return undefined
  return JSON.parse(readFileSync(file, 'utf8')) as { name?: string; version?: string }
}
