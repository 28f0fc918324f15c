/**
 * A failure of provisioning or of the build's set-up, with a stable code and a way out.
 *
 * Codes: `TOOL_MISSING` (a program is not on the PATH), `ARCHIVE_TAMPERED` (bytes differ from the
 * lock), `ARCHIVE_INVALID` (the archive lacks a file or cannot be read), `NETWORK` (the registry
 * could not be reached), `DISK_FULL`, `PATCH_FAILED`, `COMMAND_FAILED`.
 */
export class SetupError extends Error {
  /**
   * @param {string} code one of the codes above
   * @param {string} message expected, where, actual
   * @param {string} [hint] what the reader can do about it
   */
  constructor(code, message, hint) {
    super(message)
    this.name = 'SetupError'
    this.code = code
    this.hint = hint
  }
}

const DISK_FULL = /ENOSPC|no space left on device|disk quota exceeded|EDQUOT/i
const NETWORK =
  /ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|ERR_SOCKET_TIMEOUT|network request|CERT_|UNABLE_TO_/i

/**
 * Turns whatever failed into a SetupError that names the cause.
 * @param {unknown} error an Error of Node, or a CommandFailure with `output`
 * @param {string} doing what was being attempted, for the message
 * @returns {Error} a SetupError, unless the scripts themselves are wrong
 */
export function explain(error, doing) {
  if (error instanceof SetupError) return error
  // A mistake in these scripts is not an accident of the environment.
  if (error instanceof TypeError || error instanceof ReferenceError) return error
  const text = `${error?.code ?? ''} ${error?.message ?? error} ${error?.output ?? ''}`
  if (DISK_FULL.test(text)) {
    return new SetupError(
      'DISK_FULL',
      `the disk is full: ${doing} needs more space`,
      'Free some space, or set POLYMIND_CACHE to a folder on a larger disk.',
    )
  }
  if (NETWORK.test(text)) {
    return new SetupError(
      'NETWORK',
      `the package registry could not be reached while ${doing}: ${lastLines(text)}`,
      'Check the connection, the proxy settings and `npm config get registry`, then run it again.',
    )
  }
  return new SetupError('COMMAND_FAILED', `${doing} failed: ${lastLines(text)}`)
}

/** The last few lines of a program's output: enough to see the cause. */
export function lastLines(text, count = 12) {
  return text.trim().split('\n').slice(-count).join('\n')
}

/** Prints an error the way every script of this repository does. */
export function printError(error) {
  const known = error instanceof SetupError
  console.error(
    `\nerror ${known ? error.code : 'UNEXPECTED'}: ${known ? error.message : error?.stack}`,
  )
  if (known && error.hint) console.error(`  ${error.hint}`)
}
