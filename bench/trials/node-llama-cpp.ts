/** node-llama-cpp, loaded from the cache folder; only the part of its API that the trials use. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

export type Token = number

export interface Sequence {
  evaluate(
    tokens: Token[],
    options: { temperature: number; yieldEogToken: boolean },
  ): AsyncGenerator<Token>
  clearHistory(): Promise<void>
}

export interface Context {
  getSequence(): Sequence
}

export interface Model {
  tokenize(text: string, specialTokens?: boolean): Token[]
  detokenize(tokens: Token[], specialTokens?: boolean): string
  createContext(options: {
    contextSize: number
    sequences: number
    threads: number
    batchSize?: number
  }): Promise<Context>
}

interface Library {
  getLlama(options: {
    gpu: false
    build: 'never'
    logLevel: 'error'
    maxThreads: number
    progressLogs: boolean
  }): Promise<{
    loadModel(options: { modelPath: string }): Promise<Model>
  }>
}

/** Loads a model on the CPU with the prebuilt binary. */
export async function loadPeerModel(
  folder: string,
  model: string,
  threads: number,
): Promise<Model> {
  const entry = join(folder, 'node_modules', 'node-llama-cpp', 'dist', 'index.js')
  const { getLlama } = (await import(pathToFileURL(entry).href)) as Library
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    logLevel: 'error',
    maxThreads: threads,
    progressLogs: false,
  })
  return llama.loadModel({ modelPath: model })
}
