/** Tasks without an image: arithmetic through the calculator, questions about itself. */
import type { ToolName, Turn } from './chat.js'
import type { Rng } from './rng.js'
import { calculator, failedResult, type Operation, okResult } from './tools.js'

const SIGNS: Record<Operation, readonly string[]> = {
  add: ['+', 'plus'],
  sub: ['-', 'minus'],
  mul: ['*', 'times'],
  div: ['/', 'divided by'],
}

export interface Sum {
  op: Operation
  a: number
  b: number
}

export function randomSum(rng: Rng): Sum {
  const number = (): number => {
    const n = rng.int(0, rng.pick([9, 99, 999]))
    return rng.chance(0.1) ? n + rng.int(1, 9) / 10 : n
  }
  const op = rng.pick(['add', 'sub', 'mul', 'div'] as const)
  const sum = { op, a: number(), b: number() }
  if (op === 'div' && sum.b === 0) sum.b = 1
  return sum
}

/** Arithmetic; without the tool the model says that it needs it. */
export function sumTurn(rng: Rng, sum: Sum, tools: readonly ToolName[], fail = 0): Turn {
  const sign = rng.pick(SIGNS[sum.op])
  const text = `${sum.a} ${sign} ${sum.b}`
  const question = rng.pick([`What is ${text}?`, `Compute ${text}.`, `Calculate ${text}.`])
  if (!tools.includes('calculator')) {
    return { question, answer: ['I need the calculator tool for that.'] }
  }
  const failed = rng.chance(fail)
  const value = calculator(sum)
  const result = failed ? failedResult(rng.pick(['timeout', 'out of budget'])) : okResult(value)
  const last = failed ? 'The tool failed.' : `The result is ${value}.`
  const args = { op: sum.op, a: sum.a, b: sum.b }
  return { question, answer: [{ call: { tool: 'calculator', args }, result }, last] }
}

const NAME = 'My name is P-Nano.'
const SELF: readonly (readonly [readonly string[], string])[] = [
  [['What are you?', 'Who are you?'], 'I am P-Nano, a small multimodal model.'],
  [['What is your name?'], NAME],
  [
    ['What can you do?', 'How can you help?'],
    'I can describe shapes, read charts and words, and call tools.',
  ],
  [
    ['Hello!', 'Hello.', 'Hi.', 'Hi!', 'Hello'],
    'Hello! Show me a picture or ask me to compute something.',
  ],
  [
    ['Who made you?', 'Where do you come from?'],
    'I was trained from scratch in the polymind-native project.',
  ],
  [['Thank you.', 'Thanks!'], 'You are welcome.'],
  [['How big are you?'], 'I am very small: a few million parameters.'],
  [
    [
      'Describe the image.',
      'What does it say?',
      'What do you see?',
      'Explain this plot.',
      'What is the slope?',
    ],
    'I do not see an image.',
  ],
  [
    [
      'What is the capital of France?',
      'Tell me a story.',
      'Who is the president?',
      'Write a poem.',
      'What is the weather?',
      'How old is the sun?',
    ],
    'I do not know that. I only know shapes, charts, words and sums.',
  ],
]

export function selfTurn(rng: Rng): Turn {
  const [questions, answer] = rng.pick(SELF)
  return { question: rng.pick(questions), answer: [answer] }
}
