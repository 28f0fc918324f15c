import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sniffAudio } from '../../lib/media/audio.js'
import { digest } from '../../lib/media/digest.js'
import { decodeImage, MAX_IMAGE_PIXELS } from '../../lib/media/image.js'
import type { NativeImage } from '../../lib/native/binding.js'
import { ask, reasonOf, withFakeEngine } from '../helpers/fake-engine.js'
import { bigPng, tinyWav } from '../helpers/files.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'polymind-media-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** 4 × 2 pixels, left half red, right half blue. */
function twoColours() {
  const pixels = Buffer.alloc(4 * 2 * 3)
  for (let i = 0; i < 8; i++) pixels.set(i % 4 < 2 ? [255, 0, 0] : [0, 0, 255], 3 * i)
  return sharp(pixels, { raw: { width: 4, height: 2, channels: 3 } })
}

const decode = (data: Uint8Array | string) => decodeImage({ type: 'image', data }, 'inputs[0]', 0)
const pixel = ({ data }: NativeImage, index: number) => [...data.subarray(3 * index, 3 * index + 3)]

describe('images', () => {
  it.each(['png', 'webp', 'gif'] as const)('decodes %s exactly', async (format) => {
    const options = format === 'webp' ? { lossless: true } : {}
    const image = await decode(await twoColours().toFormat(format, options).toBuffer())
    expect(image).toMatchObject({ kind: 'image', width: 4, height: 2 })
    expect(pixel(image, 0)).toEqual([255, 0, 0])
    expect(pixel(image, 7)).toEqual([0, 0, 255])
  })

  it('decodes jpeg nearly', async () => {
    const image = await decode(
      await twoColours().jpeg({ quality: 100, chromaSubsampling: '4:4:4' }).toBuffer(),
    )
    expect(pixel(image, 0)[0]).toBeGreaterThan(240)
  })

  it('takes data URIs and paths to the same pixels', async () => {
    const png = await twoColours().png().toBuffer()
    const path = join(folder, 'two.png')
    await writeFile(path, png)
    const fromUri = await decode(`data:image/png;base64,${png.toString('base64')}`)
    const fromPath = await decodeImage({ type: 'image', path }, 'inputs[0]', 0)
    expect(fromUri.digest).toBe(fromPath.digest)
    expect(fromUri.digest).toMatch(/^[0-9a-f]{64}$/)
  })

  it('puts transparency over white', async () => {
    const clear = sharp({ create: { width: 1, height: 1, channels: 4, background: '#ff000000' } })
    expect(pixel(await decode(await clear.png().toBuffer()), 0)).toEqual([255, 255, 255])
  })

  it('applies the EXIF orientation', async () => {
    const turned = await twoColours().jpeg().withMetadata({ orientation: 6 }).toBuffer()
    expect(await decode(turned)).toMatchObject({ width: 2, height: 4 })
  })

  it('turns grey and 16 bit images into RGB', async () => {
    const grey = await twoColours().greyscale().png().toBuffer()
    const image = await decode(grey)
    expect(image.data.length).toBe(24)
    const deep = await twoColours().toColourspace('rgb16').png().toBuffer()
    expect(pixel(await decode(deep), 0)).toEqual([255, 0, 0])
  })

  it('takes the first frame of an animation', async () => {
    const frames = Buffer.concat([Buffer.alloc(12, 255), Buffer.alloc(12, 0)])
    const gif = await sharp(frames, { raw: { width: 2, height: 4, channels: 3, pageHeight: 2 } })
      .gif()
      .toBuffer()
    const image = await decode(gif)
    expect(image).toMatchObject({ width: 2, height: 2 })
    expect(pixel(image, 0)).toEqual([255, 255, 255])
  })

  it('takes raw pixels and checks their number', async () => {
    const raw = { width: 2, height: 1 }
    const data = Uint8Array.of(1, 2, 3, 4, 5, 6)
    const image = await decodeImage({ type: 'image', data, raw }, 'inputs[0]', 0)
    expect([...image.data]).toEqual([1, 2, 3, 4, 5, 6])
    const short = decodeImage({ type: 'image', data: data.subarray(1), raw }, 'inputs[0]', 0)
    expect(await reasonOf(short)).toMatchObject({ code: 'MM_MEDIA_INVALID' })
  })

  it('refuses 30,000 × 30,000 pixels by the header alone', async () => {
    const png = bigPng(30_000, 30_000)
    expect(png.length).toBeLessThan(10_000_000)
    const before = process.memoryUsage().rss
    const error = await reasonOf(decode(png))
    expect(error).toMatchObject({
      code: 'MM_MEDIA_INVALID',
      message: expect.stringContaining(String(MAX_IMAGE_PIXELS)),
    })
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024)
  })

  it.each<[string, () => Promise<Uint8Array | string> | Uint8Array | string, RegExp]>([
    ['text', () => Buffer.from('not an image at all'), /PNG, JPEG, WebP or GIF/],
    ['nothing', () => Buffer.alloc(0), /PNG, JPEG, WebP or GIF/],
    ['svg', () => Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'), /PNG, JPEG/],
    [
      'a cut png',
      async () => (await twoColours().resize(400, 400).png().toBuffer()).subarray(0, 300),
      /decode/,
    ],
    [
      'a cut jpeg',
      async () => (await twoColours().resize(400, 400).jpeg().toBuffer()).subarray(0, 1500),
      /decode/,
    ],
    ['a URI of another kind', () => 'data:text/plain;base64,aGk=', /data:image/],
    ['a URI without base64', () => 'data:image/png,abc', /base64/],
    ['a mangled URI', () => 'data:image/png;base64,aGk*', /base64/],
  ])('refuses %s', async (_, make, message) => {
    const error = await reasonOf(decode(await make()))
    expect(error).toMatchObject({
      code: 'MM_MEDIA_INVALID',
      message: expect.stringMatching(message),
      details: { input: 0 },
    })
  })

  it.each([
    ['/no/such/file.png', /no such file/],
    ['https://example.org/a.png', /never fetched/],
    ['file:///etc/passwd', /never fetched/],
    ['.', /folder|regular file/],
    ['/dev/zero', /regular file/],
  ])('refuses the path %s', async (path, message) => {
    const error = await reasonOf(decodeImage({ type: 'image', path }, 'inputs[0]', 0))
    expect(error).toMatchObject({
      code: 'MM_MEDIA_INVALID',
      message: expect.stringMatching(message),
    })
  })

  it('does not wait for a pipe nobody writes to', async () => {
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', [pipe])
    const error = await reasonOf(decodeImage({ type: 'image', path: pipe }, 'inputs[0]', 0))
    expect(error).toMatchObject({ code: 'MM_MEDIA_INVALID' })
  })
})

describe('audio', () => {
  it('knows the containers', () => {
    expect(sniffAudio(tinyWav())).toBe('wav')
    expect(sniffAudio(Buffer.from('fLaC....'))).toBe('flac')
    expect(sniffAudio(Buffer.from('ID3.....'))).toBe('mp3')
    expect(sniffAudio(Uint8Array.of(0xff, 0xfb, 0x90, 0x64, 0))).toBe('mp3')
    expect(sniffAudio(Uint8Array.of(0xff, 0xd8, 0xff, 0xe0, 0))).toBeUndefined()
    expect(sniffAudio(Buffer.from('RIFF....AVI '))).toBeUndefined()
    expect(sniffAudio(new Uint8Array())).toBeUndefined()
  })
})

describe('a request with media', () => {
  it('hands pixels, bytes and their places over', () =>
    withFakeEngine({ onSubmit: (r) => r.finish() }, async (engine, binding) => {
      const data = await twoColours().png().toBuffer()
      await engine.run({
        inputs: [
          { type: 'text', text: 'a' },
          { type: 'image', data },
          { type: 'audio', data: tinyWav() },
          { type: 'text', text: 'b' },
        ],
      })
      const request = binding.named('submit')[0]?.args[0] as { messages: string; media: unknown[] }
      expect(JSON.parse(request.messages)[0].content).toEqual([
        { type: 'text', text: 'a' },
        { type: 'media', index: 0 },
        { type: 'media', index: 1 },
        { type: 'text', text: 'b' },
      ])
      expect(request.media).toMatchObject([{ kind: 'image', width: 4 }, { kind: 'audio' }])
    }))

  it('names the message and part that is wrong', () =>
    withFakeEngine({}, async (engine) => {
      const content = [
        { type: 'text' as const, text: 'x' },
        { type: 'image' as const, path: '/no/such.png' },
      ]
      const error = await reasonOf(engine.run({ messages: [{ role: 'user', content }] }))
      expect(error).toMatchObject({ details: { where: 'messages[0].content[1].path', input: 1 } })
    }))

  it('says why video is refused', () =>
    withFakeEngine({}, async (engine) => {
      const video = { type: 'video' as const, path: 'a.mp4' }
      expect(await reasonOf(engine.run({ inputs: [...ask().inputs, video] }))).toMatchObject({
        code: 'MM_ENGINE_UNAVAILABLE',
      })
    }))

  it('can be cancelled while an image is decoded', () =>
    withFakeEngine({}, async (engine, binding) => {
      const data = await twoColours().resize(2000, 2000).png().toBuffer()
      const generation = engine.run({ inputs: [{ type: 'image', data }] })
      await generation.events().next()
      generation.cancel()
      expect(await reasonOf(generation)).toMatchObject({ code: 'MM_CANCELLED' })
      await new Promise((resolve) => setTimeout(resolve, 300))
      expect(binding.named('submit')).toEqual([])
    }))
})

describe('digest', () => {
  it('depends on the label and the bytes', async () => {
    const data = Uint8Array.of(1, 2, 3)
    const all = [digest('a', data), digest('b', data), digest('a', data.subarray(1))]
    expect(new Set(await Promise.all(all)).size).toBe(3)
    expect(await digest('a', data)).toBe(await digest('a', Uint8Array.of(1, 2, 3)))
  })
})
