import { isMMError, type MMError } from '../errors.js'

/** Wrong usage found after commander is done; exit code 2. */
export class UsageError extends Error {}

/** Options every command has. */
export interface CommonOptions {
  json?: boolean
  verbose?: boolean
}

// Shared by all Outputs: whoever reports a failure must know whether a streamed line is open.
let column = 0

/** Where a command writes. Results go to stdout, everything else to stderr. */
export class Output {
  #progressShown = false

  constructor(readonly options: CommonOptions) {}

  /** Text of a result. */
  text(chunk: string): void {
    this.clearProgress()
    process.stdout.write(chunk)
    const newline = chunk.lastIndexOf('\n')
    column = newline === -1 ? column + chunk.length : chunk.length - newline - 1
  }

  /** A line of a result. */
  line(text = ''): void {
    this.text(`${text}\n`)
  }

  /** Ends a line of streamed text, if one is open. */
  endLine(): void {
    if (column > 0) this.text('\n')
  }

  /** The one document of `--json`. */
  document(value: unknown): void {
    this.clearProgress()
    process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
  }

  /**
   * A note beside the result, on stderr, on a line of its own. The newline goes to stderr too, so
   * that redirected text stays exactly what the model said.
   */
  note(text: string): void {
    this.clearProgress()
    const lead = column > 0 ? '\n' : ''
    column = 0
    process.stderr.write(`${lead}${dim(text)}\n`)
  }

  /** A line that is overwritten, only on a terminal. */
  progress(text: string): void {
    if (process.stderr.isTTY !== true) return
    this.#progressShown = true
    process.stderr.write(`\r\x1b[2K${dim(text)}`)
  }

  clearProgress(): void {
    if (!this.#progressShown) return
    this.#progressShown = false
    process.stderr.write('\r\x1b[2K')
  }

  /** `error CODE: message` and the hint; the stack only with --verbose. Returns the exit code. */
  failure(error: unknown): number {
    this.clearProgress()
    if (column > 0) process.stderr.write('\n')
    const { code, message, hint } = explain(error)
    if (this.options.json === true) {
      const details = isMMError(error) ? error.details : {}
      this.document({ error: { code, message, details } })
    }
    process.stderr.write(`error ${code}: ${message}\n`)
    if (hint !== undefined && !message.includes(hint)) process.stderr.write(`hint: ${hint}\n`)
    if (this.options.verbose === true && error instanceof Error) {
      process.stderr.write(`${error.stack ?? ''}\n`)
    }
    return error instanceof UsageError || code === 'MM_INVALID_REQUEST' ? 2 : 1
  }
}

function explain(error: unknown): { code: string; message: string; hint?: string | undefined } {
  if (isMMError(error)) {
    return { code: (error as MMError).code, message: error.message, hint: error.details.hint }
  }
  if (error instanceof UsageError) return { code: 'MM_INVALID_REQUEST', message: error.message }
  if (error instanceof Error && error.name === 'AbortError') {
    return { code: 'MM_CANCELLED', message: 'interrupted' }
  }
  return { code: 'MM_INTERNAL', message: error instanceof Error ? error.message : String(error) }
}

function dim(text: string): string {
  return process.stderr.isTTY === true && process.env.NO_COLOR === undefined
    ? `\x1b[2m${text}\x1b[22m`
    : text
}
