import type { MetadataValue } from './gguf-writer.js'

type Metadata = (readonly [string, MetadataValue])[]

/** Token types of GGUF. */
const NORMAL = 1
const UNKNOWN = 2
const CONTROL = 3
const BYTE = 6

const LETTERS = 'abcdefghijklmnopqrstuvwxyz'

/**
 * Synthetic words in the order a tokenizer could have learned them: each is a shorter one (or a
 * single piece) plus one letter, with and without the piece that stands for a leading space.
 */
export function* syntheticWords(space: string): Generator<{ left: string; right: string }> {
  let words = [...LETTERS, space]
  for (;;) {
    const longer: string[] = []
    for (const left of words) {
      for (const right of LETTERS) {
        yield { left, right }
        longer.push(left + right)
      }
    }
    words = longer
  }
}

/** GPT-2's printable stand-ins for the 256 bytes, in the order of its vocabulary. */
export function byteLetters(): string[] {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
  const bytes = Array.from({ length: 256 }, (_, byte) => byte)
  const shown = bytes.filter(printable).map((byte) => String.fromCodePoint(byte))
  const hidden = bytes.filter((byte) => !printable(byte))
  return [...shown, ...hidden.map((_, index) => String.fromCodePoint(256 + index))]
}

export interface BytePairOptions {
  size: number
  /** llama.cpp's name of the pre-tokenizer, e.g. `qwen2`. */
  pre: string
  /** Control tokens, the last of the vocabulary. */
  control: string[]
  bos?: string
  eos: string
  addBos: boolean
  template: string
}

/** A byte-level BPE vocabulary of the wanted size. */
export function bytePairVocabulary(options: BytePairOptions): Metadata {
  const tokens = byteLetters()
  const merges: string[] = []
  const words = syntheticWords('\u0120')
  while (tokens.length < options.size - options.control.length) {
    const { left, right } = words.next().value as { left: string; right: string }
    tokens.push(left + right)
    merges.push(`${left} ${right}`)
  }
  const types = new Array<number>(tokens.length).fill(NORMAL)
  for (const token of options.control) {
    tokens.push(token)
    types.push(CONTROL)
  }
  const id = (token: string): number => tokens.indexOf(token)
  return [
    ['tokenizer.ggml.model', { type: 'string', value: 'gpt2' }],
    ['tokenizer.ggml.pre', { type: 'string', value: options.pre }],
    ['tokenizer.ggml.tokens', { type: 'string[]', value: tokens }],
    ['tokenizer.ggml.token_type', { type: 'i32[]', value: types }],
    ['tokenizer.ggml.merges', { type: 'string[]', value: merges }],
    ...(options.bos === undefined
      ? []
      : ([['tokenizer.ggml.bos_token_id', { type: 'u32', value: id(options.bos) }]] as Metadata)),
    ['tokenizer.ggml.eos_token_id', { type: 'u32', value: id(options.eos) }],
    ['tokenizer.ggml.add_bos_token', { type: 'bool', value: options.addBos }],
    ['tokenizer.chat_template', { type: 'string', value: options.template }],
  ]
}

/** A SentencePiece-style vocabulary with byte fallback, as Gemma's: <pad> <eos> <bos> <unk> first. */
export function sentencePieceVocabulary(
  size: number,
  control: string[],
  template: string,
): Metadata {
  const tokens = ['<pad>', '<eos>', '<bos>', '<unk>', ...control]
  const types = tokens.map((token): number => (token === '<unk>' ? UNKNOWN : CONTROL))
  for (let byte = 0; byte < 256; byte++) {
    tokens.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
    types.push(BYTE)
  }
  const space = '\u2581'
  for (const piece of [space, '\n', ...asciiPieces()]) {
    tokens.push(piece)
    types.push(NORMAL)
  }
  const words = syntheticWords(space)
  while (tokens.length < size) {
    const { left, right } = words.next().value as { left: string; right: string }
    tokens.push(left + right)
    types.push(NORMAL)
  }
  if (tokens.length > size) throw new RangeError(`expected a size of at least ${tokens.length}`)
  return [
    ['tokenizer.ggml.model', { type: 'string', value: 'llama' }],
    ['tokenizer.ggml.pre', { type: 'string', value: 'default' }],
    ['tokenizer.ggml.tokens', { type: 'string[]', value: tokens }],
    // Merged in the order of the vocabulary: earlier pieces score higher.
    ['tokenizer.ggml.scores', { type: 'f32[]', value: tokens.map((_, index) => -index) }],
    ['tokenizer.ggml.token_type', { type: 'i32[]', value: types }],
    ['tokenizer.ggml.bos_token_id', { type: 'u32', value: 2 }],
    ['tokenizer.ggml.eos_token_id', { type: 'u32', value: 1 }],
    ['tokenizer.ggml.unknown_token_id', { type: 'u32', value: 3 }],
    ['tokenizer.ggml.padding_token_id', { type: 'u32', value: 0 }],
    ['tokenizer.ggml.add_bos_token', { type: 'bool', value: true }],
    ['tokenizer.ggml.add_space_prefix', { type: 'bool', value: false }],
    ['tokenizer.chat_template', { type: 'string', value: template }],
  ]
}

function asciiPieces(): string[] {
  return Array.from({ length: 94 }, (_, index) => String.fromCharCode(33 + index))
}

/** Fills the tail of a published vocabulary that holds reserved tokens. */
export function reserved(count: number, name: (index: number) => string): string[] {
  return Array.from({ length: count }, (_, index) => name(index))
}
