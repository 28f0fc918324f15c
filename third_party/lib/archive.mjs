import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { gunzipSync } from 'node:zlib'
import { SetupError } from './errors.mjs'

const BLOCK = 512
const MAX_UNPACKED_BYTES = 1024 ** 3

/**
 * Checks a file against a subresource-integrity string such as `sha512-…`.
 * @throws {SetupError} `ARCHIVE_TAMPERED` when the digest differs
 */
export async function verifyIntegrity(path, integrity) {
  const [algorithm] = integrity.split('-', 1)
  if (algorithm !== 'sha512') {
    throw new SetupError(
      'ARCHIVE_INVALID',
      `expected a sha512 integrity in lock.json, got ${algorithm}`,
    )
  }
  const digest = createHash(algorithm)
    .update(await readFile(path))
    .digest('base64')
  const actual = `${algorithm}-${digest}`
  if (actual !== integrity) {
    throw new SetupError(
      'ARCHIVE_TAMPERED',
      `the archive is not the one that was locked\n  expected ${integrity}\n  actual   ${actual}`,
      'Do not use it. Try again; if it happens again, look at the registry that npm is set to.',
    )
  }
}

/**
 * Reads named files out of an npm tarball. Nothing but these names is ever looked at, so no path
 * in the archive can lead outside.
 * @param {string} path of the `.tgz`
 * @param {string[]} names without npm's leading `package/`
 * @returns {Promise<Map<string, Buffer>>} name → content, complete
 * @throws {SetupError} `ARCHIVE_INVALID` when it is no tarball or a file is missing
 */
export async function readTarball(path, names) {
  let tar
  try {
    tar = gunzipSync(await readFile(path), { maxOutputLength: MAX_UNPACKED_BYTES })
  } catch (error) {
    throw new SetupError('ARCHIVE_INVALID', `${path} cannot be unpacked: ${error.message}`)
  }
  const found = new Map()
  for (const [name, content] of tarEntries(tar)) {
    const short = name.replace(/^[^/]+\//, '')
    if (names.includes(short)) found.set(short, content)
  }
  const missing = names.filter((name) => !found.has(name))
  if (missing.length > 0) {
    throw new SetupError('ARCHIVE_INVALID', `${path} does not hold ${missing.join(', ')}`)
  }
  return found
}

/** Regular files of an uncompressed tar (ustar, as npm writes it), in order. */
function* tarEntries(tar) {
  for (let at = 0; at + BLOCK <= tar.length; ) {
    const name = field(tar, at, 100)
    if (name === '') return
    const prefix = field(tar, at + 345, 155)
    const size = Number.parseInt(field(tar, at + 124, 12), 8)
    const type = String.fromCharCode(tar[at + 156] || 48)
    const end = at + BLOCK + size
    if (!Number.isSafeInteger(size) || end > tar.length) {
      throw new SetupError('ARCHIVE_INVALID', `the tar archive ends inside of ${name}`)
    }
    if (type === '0') yield [prefix ? `${prefix}/${name}` : name, tar.subarray(at + BLOCK, end)]
    at = at + BLOCK + Math.ceil(size / BLOCK) * BLOCK
  }
}

function field(tar, start, length) {
  const bytes = tar.subarray(start, start + length)
  const end = bytes.indexOf(0)
  return bytes.toString('utf8', 0, end < 0 ? length : end).trim()
}
