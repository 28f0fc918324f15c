import { type ChildProcess, spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { peerProgram } from '../peers.js'

const START_TIMEOUT_MS = 120_000

/** A llama-server on a free port of the loopback interface. */
export class LlamaServer {
  readonly #child: ChildProcess
  readonly #url: string

  private constructor(child: ChildProcess, url: string) {
    this.#child = child
    this.#url = url
  }

  static async start(args: readonly string[]): Promise<LlamaServer> {
    const port = await freePort()
    const all = ['--host', '127.0.0.1', '--port', String(port), '--jinja', ...args]
    const child = spawn(peerProgram('llama-server'), all, { stdio: 'ignore' })
    const server = new LlamaServer(child, `http://127.0.0.1:${port}`)
    try {
      await server.#ready()
    } catch (error) {
      await server.stop()
      throw error
    }
    return server
  }

  async #ready(): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS
    while (Date.now() < deadline && this.#child.exitCode === null) {
      const answer = await fetch(`${this.#url}/health`).catch(() => undefined)
      if (answer?.ok === true) return
      await sleep(50)
    }
    throw new Error('llama-server did not become ready')
  }

  /**
   * Milliseconds from sending a chat request to the first piece of text of its answer. Nothing is
   * taken from the prompt cache.
   */
  async timeToFirstToken(content: unknown): Promise<number> {
    const started = performance.now()
    const answer = await fetch(`${this.#url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        messages: [{ role: 'user', content }],
        stream: true,
        cache_prompt: false,
        max_tokens: 4,
        temperature: 0,
      }),
    })
    if (!answer.ok || answer.body === null) throw new Error(`llama-server: ${await answer.text()}`)
    let first = Number.NaN
    let buffer = ''
    for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
      buffer += chunk
      if (Number.isNaN(first) && /"content":"[^"]/.test(buffer)) first = performance.now() - started
    }
    if (Number.isNaN(first)) throw new Error(`llama-server answered without text: ${buffer}`)
    return first
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    const exit = new Promise((done) => this.#child.once('exit', done))
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000)
    await exit
    clearTimeout(timer)
  }
}

function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const probe = createServer()
    probe.on('error', fail)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => done(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
