import { writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Engine, KvPages } from '../engine.js'
import { MMError } from '../errors.js'
import type { Generation } from '../generation.js'
import { countStates } from '../kv/pages.js'
import { kvPicture } from '../kv/picture.js'
import { type Output, UsageError } from './output.js'
import type { ModelOptions } from './request-options.js'
import { withEngine } from './with-engine.js'

export interface InspectKvOptions extends ModelOptions {
  out?: string
  requests?: number
}

const DEFAULT_FILE = 'kv-pool.svg'
const DEFAULT_REQUESTS = 6
/** Tokens each request writes before the picture is taken: enough for pages of their own. */
const TOKENS_BEFORE = 40
/** Never ends by itself, so that all run when the picture is taken. */
const ENDLESS = 'root ::= [a-z ] root'
const SENTENCE = 'Answer in one short sentence and keep to what you can see. '
const PREFIX_SENTENCES = 12

/**
 * `mm inspect --kv`: a small load (one conversation that is over, then requests with a common
 * beginning) and a picture of the pages while it runs.
 */
export async function inspectKv(options: InspectKvOptions, output: Output): Promise<void> {
  const requests = options.requests ?? DEFAULT_REQUESTS
  const file = resolve(options.out ?? DEFAULT_FILE)
  if (!file.endsWith('.svg')) throw new UsageError(`--out: expected a .svg file, received ${file}`)
  await withEngine(
    options,
    output,
    async (engine) => {
      const { kv, model } = engine.info()
      if (kv.memory !== 'paged') {
        throw new MMError('MM_ENGINE_UNAVAILABLE', `there are no pages to draw: ${kv.reason}`)
      }
      const pages = await pagesUnderLoad(engine, requests)
      const stats = engine.stats()
      const picture = kvPicture(pages, {
        title: `KV cache of ${model.name === '' ? model.description : model.name}`,
        subtitle: `${kv.dtype} pages, ${kv.bytes_per_token} bytes a token; ${requests} requests with one beginning, and a conversation that is over`,
        spilled: stats.kv.spilled_pages,
      })
      await writeFile(file, picture)
      if (output.options.json === true) {
        output.document({ file, requests, kv: stats.kv, groups: pages.groups })
      } else print(file, pages, output)
    },
    { batch: { max_requests: requests } },
  )
}

/** Pages while `requests` run that begin alike, after something that was cached. */
async function pagesUnderLoad(engine: Engine, requests: number): Promise<KvPages> {
  const once = (system: string) => start(engine, system, 'Hello.', 2).result()
  await once('You are a helpful assistant. '.repeat(PREFIX_SENTENCES / 2))
  const system = SENTENCE.repeat(PREFIX_SENTENCES)
  await once(system)
  const running = Array.from({ length: requests }, (_, index) =>
    start(engine, system, `Question ${index + 1}?`),
  )
  try {
    await Promise.all(running.map((generation, i) => written(generation, TOKENS_BEFORE + 8 * i)))
    return await engine.kvPages()
  } finally {
    for (const generation of running) generation.cancel()
    await Promise.allSettled(running.map((generation) => generation.result()))
  }
}

function start(engine: Engine, system: string, question: string, max_tokens = 1024): Generation {
  return engine.run({
    messages: [
      { role: 'system', content: system },
      { role: 'user', content: question },
    ],
    preferences: { temperature: 1, seed: 1, max_tokens, grammar: ENDLESS },
  })
}

/** Resolves when there are `count` pieces of text, or the answer is over. Rejects as it does. */
function written(generation: Generation, count: number): Promise<void> {
  return new Promise((done, fail) => {
    const read = async () => {
      let pieces = 0
      // Reads on after that: leaving the loop would cancel.
      for await (const _ of generation) if (++pieces === count) done()
    }
    read().then(done, fail)
  })
}

function print(file: string, pages: KvPages, output: Output): void {
  for (const [index, group] of pages.groups.entries()) {
    const { u, s, c } = countStates(group)
    const name = pages.groups.length > 1 ? `group ${index + 1}: ` : ''
    output.line(
      `${name}${group.pages_total} pages of ${group.page_bytes} bytes: ` +
        `${u} used, ${s} shared, ${c} cached, ${group.pages_total - u - s - c} free`,
    )
  }
  output.line(file)
}
