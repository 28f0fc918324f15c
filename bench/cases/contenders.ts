import { runProgram, runTrial } from '../lib/child.js'
import type { Contender } from '../lib/compare.js'
import { median } from '../lib/stats.js'
import { llamaVersion, nodeLlamaCppFolder, peerProgram } from '../peers.js'
import type { FirstTokenSpec } from '../trials/ours-first-token.js'
import type { GenerateSpec } from '../trials/ours-generate.js'

const OURS = { name: 'polymind-native', version: 'this tree' }

interface GenerateResult {
  tokens_per_second: number
  event_loop_p99_ms: number
}

/** Which figure of a generation trial is compared. */
export type GenerateFigure = keyof GenerateResult

export function oursGenerating(spec: GenerateSpec, figure: GenerateFigure): Contender {
  return {
    ...OURS,
    measure: async () =>
      (await runTrial<GenerateSpec, GenerateResult>('ours-generate.ts', spec))[figure],
  }
}

export function nodeLlamaCppGenerating(spec: GenerateSpec, figure: GenerateFigure): Contender {
  const { folder, version } = nodeLlamaCppFolder()
  return {
    name: 'node-llama-cpp',
    version,
    measure: async () =>
      (await runTrial<object, GenerateResult>('peer-generate.ts', { ...spec, folder }))[figure],
  }
}

/** A warm process answers several requests; their median is one trial. */
export function oursFirstToken(spec: FirstTokenSpec): Contender {
  return {
    ...OURS,
    measure: async () =>
      median((await runTrial<FirstTokenSpec, { ms: number[] }>('ours-first-token.ts', spec)).ms),
  }
}

export function nodeLlamaCppFirstToken(spec: FirstTokenSpec): Contender {
  const { folder, version } = nodeLlamaCppFolder()
  const full = { ...spec, folder }
  return {
    name: 'node-llama-cpp',
    version,
    measure: async () =>
      median((await runTrial<object, { ms: number[] }>('peer-first-token.ts', full)).ms),
  }
}

/** One of llama.cpp's programs; `read` finds the figure in what it prints. */
export function llamaProgram(
  name: string,
  args: readonly string[],
  read: (stdout: string) => number,
): Contender {
  const program = peerProgram(name)
  return {
    name,
    version: llamaVersion(),
    measure: async () => read(await runProgram(program, args)),
  }
}
