import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { ENDLESS, nanoRequest, ROOT, requireBuilt, withNano } from '../helpers/real.js'

const entry = requireBuilt(`${ROOT}dist/index.js`)
const file = new URL('../fixtures/worker.mjs', import.meta.url)

function start(request: unknown, endless = false): Worker {
  return new Worker(file, { workerData: { entry, request, endless } })
}

describe('worker threads', () => {
  it('several answer at once, like the main thread', () =>
    withNano(async (engine) => {
      const request = nanoRequest('caption', 11)
      const { text } = await engine.run(request)
      const workers = [start(request), start(request), start(request)]
      const answers = await Promise.all(
        workers.map(async (worker) => {
          // Both from the start: a worker that exits delivers its last message and 'exit' in one go.
          const [[message], [code]] = (await Promise.all([
            once(worker, 'message'),
            once(worker, 'exit'),
          ])) as [[{ text: string }], [number]]
          return { text: message.text, code }
        }),
      )
      expect(answers).toEqual([0, 1, 2].map(() => ({ text, code: 0 })))
    }))

  it('may be terminated in mid-run, again and again', () =>
    withNano(async (engine) => {
      for (let i = 0; i < 4; i++) {
        const worker = start(ENDLESS, true)
        await once(worker, 'message')
        await worker.terminate()
      }
      // Terminated while loading, too.
      const early = start(ENDLESS, true)
      await once(early, 'online')
      await early.terminate()
      const result = await engine.run(nanoRequest('ocr', 2))
      expect(result.finish_reason).toBe('stop')
    }))
})
