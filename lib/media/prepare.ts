import type { MediaPart } from '../abi/parts.js'
import type { ResolvedMessage, ResolvedRequest } from '../abi/request.js'
import { unavailable } from '../errors.js'
import type { NativeMedia } from '../native/binding.js'
import { readAudio } from './audio.js'
import { decodeImage } from './image.js'

/** A media part and the index it has among the media of its request. */
export interface MediaReference {
  /** How tools and models refer to it: `#img0`, `#aud0`, counted per kind. */
  ref: string
  part: MediaPart
}

/** The conversation as native code takes it. */
export interface PreparedConversation {
  /** JSON of NativeRequest.messages. */
  messages: string
  media: NativeMedia[]
}

/** Lists the media of a request with the references tools use. */
export function mediaReferences(request: ResolvedRequest): MediaReference[] {
  const counts = { image: 0, audio: 0, video: 0 }
  const short = { image: 'img', audio: 'aud', video: 'vid' }
  return mediaParts(request).map(({ part }) => ({
    ref: `#${short[part.type]}${counts[part.type]++}`,
    part,
  }))
}

/**
 * Decodes every media part and replaces it in the conversation by its index.
 *
 * @throws MMError `MM_MEDIA_INVALID` naming the input, `MM_ENGINE_UNAVAILABLE` for video.
 */
export async function prepareConversation(request: ResolvedRequest): Promise<PreparedConversation> {
  const places = mediaParts(request)
  // allSettled, so that no decoder is still running when the first failure is reported.
  const results = await Promise.allSettled(
    places.map(({ part, where, input }) => prepareMedia(part, where, input)),
  )
  const media = results.map((result) => {
    if (result.status === 'rejected') throw result.reason
    return result.value
  })
  return { messages: nativeMessages(request.messages), media }
}

async function prepareMedia(part: MediaPart, where: string, input: number): Promise<NativeMedia> {
  if (part.type === 'image') return decodeImage(part, where, input)
  if (part.type === 'audio') return readAudio(part, where, input)
  throw unavailable(
    `video input (${where})`,
    'no video decoder is part of this build',
    'extract frames and give them as images',
  )
}

interface Place {
  part: MediaPart
  where: string
  input: number
}

function mediaParts(request: ResolvedRequest): Place[] {
  const places: Place[] = []
  let input = 0
  request.messages.forEach((turn, t) => {
    turn.content.forEach((part, p) => {
      const where = request.source === 'inputs' ? `inputs[${p}]` : `messages[${t}].content[${p}]`
      if (part.type !== 'text') places.push({ part, where, input })
      input++
    })
  })
  return places
}

function nativeMessages(messages: ResolvedMessage[]): string {
  let index = 0
  return JSON.stringify(
    messages.map((turn) => ({
      ...turn,
      content: turn.content.map((part) =>
        part.type === 'text'
          ? { type: 'text', text: part.text }
          : { type: 'media', index: index++ },
      ),
    })),
  )
}
