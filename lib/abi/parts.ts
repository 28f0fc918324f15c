import { types } from 'node:util'
import { z } from 'zod'
import { strict } from './strict.js'

/** Longest text of one part, in UTF-16 code units: far beyond any context, small enough to refuse cheaply. */
export const MAX_TEXT_LENGTH = 16 * 1024 * 1024

const bytes = z.custom<Uint8Array>((value) => types.isUint8Array(value), {
  error: 'a Buffer or Uint8Array',
})

const dataUri = z
  .string({ error: 'a base64 data URI (data:image/png;base64,…)' })
  .regex(/^data:/, { error: 'a base64 data URI (data:image/png;base64,…)' })

const mediaData = z.union([bytes, dataUri], {
  error: 'a Buffer, a Uint8Array or a base64 data URI',
})

const mediaPath = z
  .string({ error: 'a path' })
  .min(1, { error: 'a non-empty path' })
  .refine((path) => !path.includes('\0'), { error: 'a path without NUL characters' })

/** Text of the user, or of an earlier turn. */
export const textPart = strict({
  type: z.literal('text'),
  text: z
    .string({ error: 'a string' })
    .max(MAX_TEXT_LENGTH, { error: `a string of at most ${MAX_TEXT_LENGTH} characters` }),
})

/** Size of raw pixels given as `data`: RGB, row-major, 3 × width × height bytes. */
const rawImage = strict({
  width: z.int({ error: 'a whole number of pixels' }).min(1).max(65_535),
  height: z.int({ error: 'a whole number of pixels' }).min(1).max(65_535),
})

const oneSource = (part: { path?: unknown; data?: unknown }) =>
  (part.path === undefined) !== (part.data === undefined)
const oneSourceError = { error: 'exactly one of path and data' }

/**
 * An image: `path` of a PNG, JPEG, WebP or GIF (first frame), or `data` with the bytes of such a
 * file. With `raw: { width, height }`, `data` is RGB pixels instead of a file.
 */
export const imagePart = strict({
  type: z.literal('image'),
  path: mediaPath.optional(),
  data: mediaData.optional(),
  raw: rawImage.optional(),
}).refine(oneSource, oneSourceError)

/** Audio: a whole WAV, MP3 or FLAC file. */
export const audioPart = strict({
  type: z.literal('audio'),
  path: mediaPath.optional(),
  data: mediaData.optional(),
}).refine(oneSource, oneSourceError)

/** Video. Accepted by the contract; this build refuses it with the reason. */
export const videoPart = strict({
  type: z.literal('video'),
  path: mediaPath.optional(),
  data: mediaData.optional(),
}).refine(oneSource, oneSourceError)

/** One piece of a message. */
export const part = z.discriminatedUnion('type', [textPart, imagePart, audioPart, videoPart], {
  error: (issue) =>
    issue.code === 'invalid_union'
      ? 'a part whose type is text, image, audio or video'
      : 'a part: an object with a type',
})

/** A text, image, audio or video part. */
export type Part = z.input<typeof part>
/** A part that is not text. */
export type MediaPart = Exclude<z.output<typeof part>, { type: 'text' }>
