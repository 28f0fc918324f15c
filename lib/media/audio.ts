import type { MediaPart } from '../abi/parts.js'
import { mismatch } from '../errors.js'
import type { NativeAudio } from '../native/binding.js'
import { mediaBytes } from './bytes.js'
import { digest } from './digest.js'

/** Container of an audio file, told by its first bytes; undefined for anything else. */
export function sniffAudio(bytes: Uint8Array): 'wav' | 'mp3' | 'flac' | undefined {
  const ascii = (from: number, to: number) =>
    Buffer.from(bytes.subarray(from, to)).toString('latin1')
  if (ascii(0, 4) === 'RIFF' && ascii(8, 12) === 'WAVE') return 'wav'
  if (ascii(0, 4) === 'fLaC') return 'flac'
  if (ascii(0, 3) === 'ID3') return 'mp3'
  return isMpegFrame(bytes) ? 'mp3' : undefined
}

/** An MPEG audio frame header: 11 bits of sync, layer III, and no reserved field. */
function isMpegFrame(bytes: Uint8Array): boolean {
  const [sync = 0, flags = 0, rates = 0] = bytes
  const version = (flags >> 3) & 3
  const layer = (flags >> 1) & 3
  const bitrate = rates >> 4
  const sampleRate = (rates >> 2) & 3
  return (
    bytes.length > 4 &&
    sync === 0xff &&
    flags >> 5 === 7 &&
    version !== 1 &&
    layer === 1 &&
    bitrate !== 15 &&
    sampleRate !== 3
  )
}

/**
 * Checks that an audio part is a file native code can decode, and passes its bytes on.
 *
 * @throws MMError `MM_MEDIA_INVALID`
 */
export async function readAudio(
  part: Extract<MediaPart, { type: 'audio' }>,
  where: string,
  input: number,
): Promise<NativeAudio> {
  const bytes = await mediaBytes(part, where, input)
  // Copied for the same reason as raw pixels: the digest must be that of what is decoded.
  const data = part.path === undefined ? bytes.slice() : bytes
  if (sniffAudio(data) === undefined) {
    throw mismatch('MM_MEDIA_INVALID', {
      expected: 'a WAV, MP3 or FLAC file',
      where,
      actual: `${data.byteLength} bytes of something else`,
      input,
    })
  }
  return { kind: 'audio', data, digest: await digest('audio', data) }
}
