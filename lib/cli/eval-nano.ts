import type { Part } from '../abi/parts.js'
import type { Engine } from '../engine.js'
import { type NanoItem, type NanoTask, nanoItem } from '../eval/nano/index.js'
import { builtinTools } from '../tools/builtin.js'
import { compileTools } from '../tools/compile.js'
import type { RunResult } from '../types.js'

/** Requests evaluated at once; the result does not depend on it. */
export const AT_ONCE = 8

/** What is measured for each task; fractions between 0 and 1. */
export interface NanoReport {
  suite: 'nano'
  seed: number
  tasks: {
    caption: { n: number; exact: number }
    chart_value: { n: number; within_5pct: number; exact: number }
    slope: { n: number; exact: number }
    ocr: { n: number; exact: number }
    /** `valid`: JSON, an allowed tool, arguments that fit; `exact`: also the arguments expected. */
    tool_call: { n: number; valid: number; exact: number }
  }
}

/** One answered item. */
export interface NanoAnswer {
  item: NanoItem
  result: RunResult
}

/** Asks `count` items of each task, seeds `seed` to `seed + count - 1`, greedily. */
export async function evaluateNano(
  engine: Engine,
  seed: number,
  count: number,
  onProgress: (done: number, total: number) => void = () => {},
  onAnswer: (answer: NanoAnswer) => void = () => {},
): Promise<NanoReport> {
  const total = 5 * count
  let done = 0
  const score = async (task: NanoTask, ...marks: ((answer: NanoAnswer) => boolean)[]) => {
    const answers = await askAll(engine, task, seed, count, (answer) => {
      onAnswer(answer)
      onProgress(++done, total)
    })
    return marks.map((mark) => answers.filter(mark).length / Math.max(1, count))
  }
  const [caption = 0] = await score('caption', sameText)
  const [near = 0, value = 0] = await score('chart_value', within5Percent, sameValue)
  const [slope = 0] = await score('slope', sameValue)
  const [ocr = 0] = await score('ocr', sameText)
  const [valid = 0, call = 0] = await score('tool_call', validCall, sameCall)
  return {
    suite: 'nano',
    seed,
    tasks: {
      caption: { n: count, exact: caption },
      chart_value: { n: count, within_5pct: near, exact: value },
      slope: { n: count, exact: slope },
      ocr: { n: count, exact: ocr },
      tool_call: { n: count, valid, exact: call },
    },
  }
}

async function askAll(
  engine: Engine,
  task: NanoTask,
  seed: number,
  count: number,
  onAnswer: (answer: NanoAnswer) => void,
): Promise<NanoAnswer[]> {
  const answers: NanoAnswer[] = []
  let next = 0
  const worker = async () => {
    while (next < count) {
      const index = next++
      const item = nanoItem(task, seed + index)
      const answer = { item, result: await ask(engine, item) }
      answers[index] = answer
      onAnswer(answer)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  return answers
}

/** Puts one item to the model. */
export async function ask(engine: Engine, item: NanoItem): Promise<RunResult> {
  return engine
    .run(
      {
        inputs: partsOf(item),
        tools_allowed: item.tools,
        preferences: { temperature: 0, max_tokens: 192 },
      },
      { tools: { ...builtinTools } },
    )
    .result()
}

function partsOf(item: NanoItem): Part[] {
  const text: Part = { type: 'text', text: item.question }
  if (item.image === undefined) return [text]
  const { width, height, data } = item.image
  const image: Part = { type: 'image', data, raw: { width, height } }
  return item.order === 'text-first' ? [text, image] : [image, text]
}

const sameText = ({ item, result }: NanoAnswer) => result.text.trim() === item.answer.trim()

/** The last number of the answer: "The slope is 5." ends with the point of the sentence. */
export function lastNumber(text: string): number | undefined {
  const found = text.match(/-?\d+(?:\.\d+)?/g)?.at(-1)
  return found === undefined ? undefined : Number(found)
}

function sameValue({ item, result }: NanoAnswer): boolean {
  const value = lastNumber(result.text)
  return value !== undefined && value === item.value
}

function within5Percent({ item, result }: NanoAnswer): boolean {
  const value = lastNumber(result.text)
  if (value === undefined || item.value === undefined) return false
  return Math.abs(value - item.value) <= 0.05 * Math.abs(item.value)
}

const compiled = compileTools({ ...builtinTools })

/** At least one call, and every call is JSON with an allowed tool and arguments that fit it. */
function validCall({ item, result }: NanoAnswer): boolean {
  return (
    result.tool_calls.length > 0 &&
    result.tool_calls.every(
      (call) =>
        call.invalid === undefined && item.tools.includes(call.tool) && fits(call.tool, call.args),
    )
  )
}

function fits(tool: string, args: Record<string, unknown>): boolean {
  try {
    compiled.get(tool)?.check(args)
    return compiled.has(tool)
  } catch {
    return false
  }
}

function sameCall(answer: NanoAnswer): boolean {
  const [call] = answer.result.tool_calls
  const expected = answer.item.call
  if (call === undefined || expected === undefined || !validCall(answer)) return false
  return call.tool === expected.tool && stable(call.args) === stable(expected.args)
}

const stable = (args: Record<string, unknown>) =>
  JSON.stringify(Object.entries(args).sort(([a], [b]) => (a < b ? -1 : 1)))
