/** The two tools P-Nano knows, as they run: results have at most two decimals. */

/** Rounds to two decimals, half away from zero; never gives negative zero. */
export function round2(value: number): number {
  const rounded = (Math.sign(value) * Math.round(Math.abs(value) * 100 + 1e-9)) / 100
  return rounded === 0 ? 0 : rounded
}

export type Operation = 'add' | 'sub' | 'mul' | 'div'

/** `a op b`; throws RangeError on division by zero. */
export function calculator(args: { op: Operation; a: number; b: number }): number {
  const { op, a, b } = args
  if (op === 'add') return round2(a + b)
  if (op === 'sub') return round2(a - b)
  if (op === 'mul') return round2(a * b)
  if (b === 0) throw new RangeError('division by zero')
  return round2(a / b)
}

/** Slope of the line through two points; throws RangeError when it is vertical. */
export function slope(args: { x1: number; y1: number; x2: number; y2: number }): number {
  if (args.x1 === args.x2) throw new RangeError('the line is vertical')
  return round2((args.y2 - args.y1) / (args.x2 - args.x1))
}

export const okResult = (result: number): string => JSON.stringify({ ok: true, result })
export const failedResult = (error: string): string => JSON.stringify({ ok: false, error })
