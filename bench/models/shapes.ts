import type { MetadataValue, TensorPlan, TensorType } from './gguf-writer.js'
import { bytePairVocabulary, reserved, sentencePieceVocabulary } from './vocabulary.js'

/** The sizes of a decoder. Names follow GGUF's keys. */
export interface ModelShape {
  /** Published model with these sizes. */
  like: string
  architecture: 'qwen2' | 'llama' | 'gemma3'
  layers: number
  width: number
  feedForward: number
  heads: number
  kvHeads: number
  headSize: number
  vocabulary: number
  context: number
  ropeBase: number
  /** Tokens a local layer looks back; every sixth layer is global. */
  slidingWindow?: number
}

export const MODEL_SHAPES = {
  'qwen2-0.5b': {
    like: 'Qwen2.5-0.5B',
    architecture: 'qwen2',
    layers: 24,
    width: 896,
    feedForward: 4864,
    heads: 14,
    kvHeads: 2,
    headSize: 64,
    vocabulary: 151936,
    context: 32768,
    ropeBase: 1e6,
  },
  // Eight KV heads on a small model: long contexts weigh as much as they do in large ones.
  'llama-0.5b': {
    like: 'nothing published; the proportions of Llama-3.2-1B at half its size',
    architecture: 'llama',
    layers: 20,
    width: 1024,
    feedForward: 5632,
    heads: 16,
    kvHeads: 8,
    headSize: 64,
    vocabulary: 32000,
    context: 32768,
    ropeBase: 5e5,
  },
  'llama-1b': {
    like: 'Llama-3.2-1B',
    architecture: 'llama',
    layers: 16,
    width: 2048,
    feedForward: 8192,
    heads: 32,
    kvHeads: 8,
    headSize: 64,
    vocabulary: 128256,
    context: 131072,
    ropeBase: 5e5,
  },
  'llama-3b': {
    like: 'Llama-3.2-3B',
    architecture: 'llama',
    layers: 28,
    width: 3072,
    feedForward: 8192,
    heads: 24,
    kvHeads: 8,
    headSize: 128,
    vocabulary: 128256,
    context: 131072,
    ropeBase: 5e5,
  },
  'gemma3-1b': {
    like: 'Gemma-3-1B',
    architecture: 'gemma3',
    layers: 26,
    width: 1152,
    feedForward: 6912,
    heads: 4,
    kvHeads: 1,
    headSize: 256,
    vocabulary: 262144,
    context: 32768,
    ropeBase: 1e6,
    slidingWindow: 512,
  },
  // Small enough for tests: same structure as llama-1b.
  'llama-tiny': {
    like: 'nothing published',
    architecture: 'llama',
    layers: 2,
    width: 256,
    feedForward: 512,
    heads: 4,
    kvHeads: 2,
    headSize: 64,
    vocabulary: 1024,
    context: 2048,
    ropeBase: 5e5,
  },
} as const satisfies Record<string, ModelShape>

export type ModelName = keyof typeof MODEL_SHAPES

/** Quantization of the matrices; the output matrix gets what llama-quantize gives it. */
export type WeightType = 'q4_0' | 'q8_0' | 'f16'

/** Types as llama-quantize chooses them: Q6_K (or Q8_0 where 256 does not divide) for the output. */
function embeddingType(shape: ModelShape, weights: WeightType): TensorType {
  if (weights !== 'q4_0') return weights
  return shape.width % 256 === 0 ? 'q6_k' : 'q8_0'
}

/** Every tensor of a model, in file order. Input and output embeddings are tied. */
export function tensorPlans(shape: ModelShape, weights: WeightType): TensorPlan[] {
  const { width, feedForward } = shape
  const query = shape.heads * shape.headSize
  const key = shape.kvHeads * shape.headSize
  const plans: TensorPlan[] = []
  const matrix = (name: string, rows: number, columns: number): void => {
    plans.push({ name: `${name}.weight`, shape: [rows, columns], type: weights })
  }
  const vector = (name: string, length: number): void => {
    plans.push({ name, shape: [length], type: 'f32' })
  }
  plans.push({
    name: 'token_embd.weight',
    shape: [width, shape.vocabulary],
    type: embeddingType(shape, weights),
  })
  vector('output_norm.weight', width)
  for (let layer = 0; layer < shape.layers; layer++) {
    const name = `blk.${layer}.`
    vector(`${name}attn_norm.weight`, width)
    matrix(`${name}attn_q`, width, query)
    matrix(`${name}attn_k`, width, key)
    matrix(`${name}attn_v`, width, key)
    matrix(`${name}attn_output`, query, width)
    if (shape.architecture === 'qwen2') {
      vector(`${name}attn_q.bias`, query)
      vector(`${name}attn_k.bias`, key)
      vector(`${name}attn_v.bias`, key)
    }
    if (shape.architecture === 'gemma3') {
      vector(`${name}attn_q_norm.weight`, shape.headSize)
      vector(`${name}attn_k_norm.weight`, shape.headSize)
      vector(`${name}post_attention_norm.weight`, width)
      vector(`${name}post_ffw_norm.weight`, width)
    }
    vector(`${name}ffn_norm.weight`, width)
    matrix(`${name}ffn_gate`, width, feedForward)
    matrix(`${name}ffn_up`, width, feedForward)
    matrix(`${name}ffn_down`, feedForward, width)
  }
  return plans
}

const CHATML =
  "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}" +
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}'
const LLAMA3 =
  "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n" +
  "{{ m['content'] }}<|eot_id|>{% endfor %}" +
  '{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}'
const GEMMA =
  "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n" +
  "{{ m['content'] }}<end_of_turn>\n{% endfor %}" +
  '{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}'

function vocabulary(shape: ModelShape): (readonly [string, MetadataValue])[] {
  const size = shape.vocabulary
  if (shape.architecture === 'gemma3') {
    return sentencePieceVocabulary(size, ['<start_of_turn>', '<end_of_turn>'], GEMMA)
  }
  if (shape.architecture === 'qwen2') {
    const control = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
    const rest = reserved(290, (index) => `<|reserved_${index}|>`)
    return bytePairVocabulary({
      size,
      pre: 'qwen2',
      control: [...control, ...rest],
      eos: '<|im_end|>',
      addBos: false,
      template: CHATML,
    })
  }
  const control = ['<|begin_of_text|>', '<|end_of_text|>', '<|start_header_id|>']
  control.push('<|end_header_id|>', '<|eot_id|>')
  const rest = reserved(251, (index) => `<|reserved_special_token_${index}|>`)
  return bytePairVocabulary({
    size,
    pre: 'llama-bpe',
    control: [...control, ...rest],
    bos: '<|begin_of_text|>',
    eos: '<|eot_id|>',
    addBos: true,
    template: LLAMA3,
  })
}

/** general.file_type: which mixture the weights are. */
const FILE_TYPES: Record<WeightType, number> = { f16: 1, q4_0: 2, q8_0: 7 }

/** Every metadata key of a model, in file order. */
export function modelMetadata(
  name: string,
  shape: ModelShape,
  weights: WeightType,
): (readonly [string, MetadataValue])[] {
  const arch = shape.architecture
  const u32 = (key: string, value: number) => [`${arch}.${key}`, { type: 'u32', value }] as const
  const f32 = (key: string, value: number) => [`${arch}.${key}`, { type: 'f32', value }] as const
  return [
    ['general.architecture', { type: 'string', value: arch }],
    ['general.type', { type: 'string', value: 'model' }],
    ['general.name', { type: 'string', value: `${name} (random weights)` }],
    [
      'general.description',
      { type: 'string', value: `Shape of ${shape.like}, weights without meaning: for speed only` },
    ],
    ['general.file_type', { type: 'u32', value: FILE_TYPES[weights] }],
    ['general.quantization_version', { type: 'u32', value: 2 }],
    u32('context_length', shape.context),
    u32('embedding_length', shape.width),
    u32('block_count', shape.layers),
    u32('feed_forward_length', shape.feedForward),
    u32('attention.head_count', shape.heads),
    u32('attention.head_count_kv', shape.kvHeads),
    u32('attention.key_length', shape.headSize),
    u32('attention.value_length', shape.headSize),
    f32('attention.layer_norm_rms_epsilon', 1e-6),
    u32('rope.dimension_count', shape.headSize),
    f32('rope.freq_base', shape.ropeBase),
    u32('vocab_size', shape.vocabulary),
    ...(shape.slidingWindow === undefined
      ? []
      : [u32('attention.sliding_window', shape.slidingWindow)]),
    ...vocabulary(shape),
  ]
}
