/**
 * Hex SHA-256 of `data`, computed on the thread pool: hashing a photo on the JS thread would stall
 * every stream of the process for milliseconds.
 *
 * @param label mixed in, so that equal bytes of different meaning (another width) differ.
 */
export async function digest(label: string, data: Uint8Array): Promise<string> {
  const [head, body] = await Promise.all([
    crypto.subtle.digest('SHA-256', new TextEncoder().encode(label)),
    crypto.subtle.digest('SHA-256', data as Uint8Array<ArrayBuffer>),
  ])
  const joined = new Uint8Array(64)
  joined.set(new Uint8Array(head), 0)
  joined.set(new Uint8Array(body), 32)
  return Buffer.from(await crypto.subtle.digest('SHA-256', joined)).toString('hex')
}
