const CLEAR_LINE = '\r\x1b[2K'

/**
 * Shows steps as `[n/m] name`. On a terminal a running step shows its percentage and the elapsed
 * time on one line; elsewhere it prints a plain line every quarter of the way. Everything goes to
 * stderr, so that a program's own output on stdout stays clean.
 */
export class Progress {
  #total
  #current = 0
  #stream

  /** @param {number} total how many steps there will be */
  constructor(total, stream = process.stderr) {
    this.#total = total
    this.#stream = stream
  }

  /**
   * Runs one step. `work` gets `{ percent(fraction), note(line) }` and may return a short text that
   * stands for the outcome, such as `up to date`.
   * @template T
   * @param {string} name
   * @param {(step: { percent(fraction: number): void, note(line: string): void }) => Promise<T>} work
   * @returns {Promise<void>}
   */
  async step(name, work) {
    this.#current += 1
    const title = `[${this.#current}/${this.#total}] ${name}`
    const line = new StepLine(this.#stream, title)
    try {
      line.end((await work(line)) || 'done')
    } catch (error) {
      line.end('failed')
      throw error
    }
  }
}

class StepLine {
  #stream
  #title
  #started = performance.now()
  #quarter = 0
  #live
  #timer
  #text = ''

  constructor(stream, title) {
    this.#stream = stream
    this.#title = title
    this.#live = Boolean(stream.isTTY)
    if (!this.#live) return
    this.#draw()
    this.#timer = setInterval(() => this.#draw(), 500)
    this.#timer.unref()
  }

  percent(fraction) {
    const percent = Math.min(100, Math.floor(fraction * 100))
    this.#text = ` ${String(percent).padStart(3)} %`
    if (this.#live) return this.#draw()
    const quarter = Math.floor(percent / 25)
    if (quarter <= this.#quarter || quarter === 4) return
    this.#quarter = quarter
    this.#stream.write(`${this.#title} ${percent} % (${this.#elapsed()})\n`)
  }

  note(text) {
    if (this.#live) this.#stream.write(CLEAR_LINE)
    this.#stream.write(`${this.#title}: ${text}\n`)
  }

  end(outcome) {
    clearInterval(this.#timer)
    const clear = this.#live ? CLEAR_LINE : ''
    this.#stream.write(`${clear}${this.#title}: ${outcome} (${this.#elapsed()})\n`)
  }

  #draw() {
    this.#stream.write(`${CLEAR_LINE}${this.#title}${this.#text}  ${this.#elapsed()}`)
  }

  #elapsed() {
    const seconds = (performance.now() - this.#started) / 1000
    return seconds < 60
      ? `${seconds.toFixed(1)} s`
      : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`
  }
}

/**
 * Turns the output of Ninja (`[12/345]`) or Make (`[ 34%]`) into calls of `percent`.
 * @returns {(text: string) => void} to be fed with the output as it comes
 */
export function buildPercent(percent) {
  return (text) => {
    const ninja = [...text.matchAll(/\[(\d+)\/(\d+)\]/g)].at(-1)
    if (ninja) return percent(Number(ninja[1]) / Number(ninja[2]))
    const make = [...text.matchAll(/\[\s*(\d+)%\]/g)].at(-1)
    if (make) percent(Number(make[1]) / 100)
  }
}
