import type sharp from 'sharp'
import type { SharpOptions } from 'sharp'
import type { MediaPart } from '../abi/parts.js'
import { describe, type MMError, mismatch, unavailable } from '../errors.js'
import type { NativeImage } from '../native/binding.js'
import { mediaBytes } from './bytes.js'
import { digest } from './digest.js'

/** Most pixels an image may have; checked against the header, before anything is decoded. */
export const MAX_IMAGE_PIXELS = 64_000_000
/** Longest decoding may take, seconds. */
const DECODE_SECONDS = 30
/** Longest side handed to the encoder; it scales down further itself. */
const MAX_SIDE = 4096

/** Formats that are decoded. SVG, PDF and others that execute or fetch something are not. */
const FORMATS = ['png', 'jpeg', 'webp', 'gif']

type Sharp = typeof sharp

let loading: Promise<Sharp> | undefined

/** sharp is loaded on first use: text-only programs do not pay for it. */
export async function loadSharp(): Promise<Sharp> {
  loading ??= import('sharp').then((module) => {
    module.default.cache(false)
    return module.default
  })
  try {
    return await loading
  } catch (error) {
    loading = undefined
    throw unavailable(
      'image input',
      `the image decoder sharp does not load (${describe((error as Error).message)})`,
      'run `npm install sharp` on this platform',
    )
  }
}

/**
 * Decodes an image part to RGB: EXIF orientation applied, first frame, transparency over white.
 *
 * @throws MMError `MM_MEDIA_INVALID` when it is no image, damaged, too large or has too many pixels.
 */
export async function decodeImage(
  part: Extract<MediaPart, { type: 'image' }>,
  where: string,
  input: number,
): Promise<NativeImage> {
  const bytes = await mediaBytes(part, where, input)
  if (part.raw !== undefined) return rawImage(bytes, part.raw, where, input)
  const { data, info } = await decode(bytes, where, input)
  return finish(data, info.width, info.height)
}

async function finish(data: Uint8Array, width: number, height: number): Promise<NativeImage> {
  return {
    kind: 'image',
    width,
    height,
    data,
    digest: await digest(`rgb ${width}x${height}`, data),
  }
}

async function rawImage(
  bytes: Uint8Array,
  { width, height }: { width: number; height: number },
  where: string,
  input: number,
): Promise<NativeImage> {
  if (bytes.byteLength !== 3 * width * height || width * height > MAX_IMAGE_PIXELS) {
    throw mismatch('MM_MEDIA_INVALID', {
      expected: `${3 * width * height} bytes (RGB, 3 × ${width} × ${height}) of at most ${MAX_IMAGE_PIXELS} pixels`,
      where: `${where}.data`,
      actual: `${bytes.byteLength} bytes`,
      input,
    })
  }
  // Copied: pixels changed by their owner while they are hashed would poison the encoder's cache.
  return finish(bytes.slice(), width, height)
}

async function decode(bytes: Uint8Array, where: string, input: number) {
  const create = await loadSharp()
  try {
    const options = {
      limitInputPixels: MAX_IMAGE_PIXELS,
      failOn: 'error',
      pages: 1,
    } satisfies SharpOptions
    const format = (await create(bytes, options).metadata()).format
    if (format === undefined || !FORMATS.includes(format)) throw new Error(`format ${format}`)
    return await create(bytes, options)
      .timeout({ seconds: DECODE_SECONDS })
      .rotate()
      .resize({ width: MAX_SIDE, height: MAX_SIDE, fit: 'inside', withoutEnlargement: true })
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true })
  } catch (error) {
    throw notDecodable(error, bytes, where, input)
  }
}

function notDecodable(error: unknown, bytes: Uint8Array, where: string, input: number): MMError {
  const reason = (error as Error).message.split('\n')[0] ?? ''
  if (/pixel limit/i.test(reason)) {
    return mismatch('MM_MEDIA_INVALID', {
      expected: `an image of at most ${MAX_IMAGE_PIXELS} pixels`,
      where,
      actual: 'one with more pixels',
      hint: 'scale it down first',
      input,
    })
  }
  return mismatch('MM_MEDIA_INVALID', {
    expected: 'a PNG, JPEG, WebP or GIF image',
    where,
    actual: `${bytes.byteLength} bytes that do not decode (${reason.slice(0, 120)})`,
    input,
  })
}
