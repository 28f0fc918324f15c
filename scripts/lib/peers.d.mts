/** llama.cpp's own programs that benchmarks and comparisons run beside ours. */
export const PEER_NAMES: string[]

/** Where the stock programs are or would be, and which of them are not built yet. */
export function locatePeers(names?: string[]): {
  dir: string
  bin: string
  defines: string[]
  missing: string[]
}

/**
 * Builds stock llama.cpp programs into the cache unless they are there.
 * @returns name → path of the program
 * @throws SetupError with a `code` and a `hint`
 */
export function buildPeers(
  names?: string[],
  progress?: { percent?(fraction: number): void; note?(line: string): void },
): Promise<Record<string, string>>
