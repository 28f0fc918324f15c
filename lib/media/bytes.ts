import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { types } from 'node:util'
import type { MediaPart } from '../abi/parts.js'
import { describe, MMError, mismatch } from '../errors.js'

/** Largest media file read, bytes. */
export const MAX_MEDIA_BYTES = 256 * 1024 * 1024

/**
 * The bytes of a media part: from its path, its buffer or its data URI. Nothing is fetched from the
 * network: a library that turns prompts into requests is a hole in somebody's firewall.
 *
 * @param where where the part stands in the request, e.g. `inputs[1]`.
 * @throws MMError `MM_MEDIA_INVALID`
 */
export async function mediaBytes(
  part: MediaPart,
  where: string,
  input: number,
): Promise<Uint8Array> {
  if (part.path !== undefined) return readPath(part.path, where, input)
  if (types.isUint8Array(part.data)) return checkSize(part.data, `${where}.data`, input)
  return decodeDataUri(String(part.data), `${where}.data`, input, part.type)
}

async function readPath(path: string, where: string, input: number): Promise<Uint8Array> {
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(path)) {
    throw mismatch('MM_MEDIA_INVALID', {
      expected: 'the path of a local file',
      where: `${where}.path`,
      received: path,
      input,
      hint: 'URLs are never fetched; download the file and give its path or its bytes as data',
    })
  }
  try {
    return await readCapped(path, where, input)
  } catch (error) {
    throw fileError(error, path, where, input)
  }
}

/** Reads a regular file of at most MAX_MEDIA_BYTES. Pipes and devices could block for ever. */
async function readCapped(path: string, where: string, input: number): Promise<Uint8Array> {
  // O_NONBLOCK: opening a pipe nobody writes to would otherwise wait in the thread pool for ever.
  const file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
  try {
    const status = await file.stat()
    if (!status.isFile()) throw notAFile(path, where, input)
    if (status.size > MAX_MEDIA_BYTES) throw tooLarge(status.size, `${where}.path`, input)
    return await file.readFile()
  } finally {
    await file.close()
  }
}

function notAFile(path: string, where: string, input: number): MMError {
  return mismatch('MM_MEDIA_INVALID', {
    expected: 'the path of a regular file',
    where: `${where}.path`,
    actual: `a folder or device (${path})`,
    input,
  })
}

function fileError(error: unknown, path: string, where: string, input: number): unknown {
  if (error instanceof MMError) return error
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
  const reasons: Record<string, string> = {
    ENOENT: `no such file: ${path}`,
    ENOTDIR: `no such file: ${path}`,
    EACCES: `no permission to read ${path}`,
    ENXIO: `a folder or device (${path})`,
  }
  return mismatch('MM_MEDIA_INVALID', {
    expected: 'a readable file',
    where: `${where}.path`,
    actual: reasons[code] ?? `${code} for ${path}`,
    input,
  })
}

function checkSize(data: Uint8Array, where: string, input: number): Uint8Array {
  if (data.byteLength > MAX_MEDIA_BYTES) throw tooLarge(data.byteLength, where, input)
  return data
}

function tooLarge(size: number, where: string, input: number): MMError {
  return mismatch('MM_MEDIA_INVALID', {
    expected: `at most ${MAX_MEDIA_BYTES} bytes`,
    where,
    actual: `${size} bytes`,
    input,
  })
}

function decodeDataUri(uri: string, where: string, input: number, kind: string): Uint8Array {
  const comma = uri.indexOf(',')
  const header = comma === -1 ? uri.slice(0, 128) : uri.slice(0, comma)
  const match = /^data:([a-z]+)\/[a-z0-9.+-]+((?:;[a-z0-9-]+=[^;,]*)*);base64$/i.exec(header)
  if (match === null || match[1]?.toLowerCase() !== kind) {
    throw mismatch('MM_MEDIA_INVALID', {
      expected: `a data URI that starts with data:${kind}/…;base64,`,
      where,
      actual: `${describe(header)}`,
      input,
    })
  }
  const body = uri.slice(comma + 1)
  if (body.length > (MAX_MEDIA_BYTES / 3) * 4) throw tooLarge((body.length / 4) * 3, where, input)
  // Buffer.from drops what is not base64 without a word; a cut or mangled URI must not become a
  // different file.
  const bytes = Buffer.from(body, 'base64')
  const padding = body.endsWith('==') ? 2 : body.endsWith('=') ? 1 : 0
  if (body.length % 4 !== 0 || bytes.length !== (body.length / 4) * 3 - padding) {
    throw mismatch('MM_MEDIA_INVALID', {
      expected: 'base64 after the comma',
      where,
      actual: `${body.length} characters of which ${bytes.length} bytes could be decoded`,
      input,
    })
  }
  return bytes
}
