import { z } from 'zod'
// The arithmetic itself lives beside the generator of the model's training data: what the model
// learned to copy and what runs here cannot drift apart.
import { calculator as calculate, slope as slopeOf } from '../eval/nano/tools.js'
import { defineTool, type ToolDefinition } from './tool.js'

const operand = z.number()

function finite(value: number): number {
  if (!Number.isFinite(value)) throw new RangeError('the result is not a finite number')
  return value
}

const calculator = defineTool({
  description: 'Adds, subtracts, multiplies or divides two numbers.',
  parameters: z.strictObject({
    op: z.enum(['add', 'sub', 'mul', 'div']),
    a: operand,
    b: operand,
  }),
  execute: (args) => finite(calculate(args)),
})

const slope = defineTool({
  description: 'Slope of the line through (x1, y1) and (x2, y2).',
  parameters: z.strictObject({ x1: operand, y1: operand, x2: operand, y2: operand }),
  execute: (args) => finite(slopeOf(args)),
})

/**
 * Example tools the embedded model knows: `calculator` {op: add | sub | mul | div, a, b} and `slope`
 * {x1, y1, x2, y2}. Results have at most two decimals; dividing by zero is an error.
 */
export const builtinTools: {
  readonly calculator: ToolDefinition<{ op: 'add' | 'sub' | 'mul' | 'div'; a: number; b: number }>
  readonly slope: ToolDefinition<{ x1: number; y1: number; x2: number; y2: number }>
} = { calculator, slope }
