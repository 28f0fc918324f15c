/**
 * Writes evaluation items to stdout, one JSON object a line, images as base64 of their RGB bytes.
 *
 *   tsx training/items.ts --count 500 [--seed 0] [--task caption]
 */
import { NANO_TASKS, nanoItem } from '../lib/eval/nano/index.js'

function option(name: string, fallback: string): string {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : (process.argv[at + 1] ?? fallback)
}

const first = Number(option('seed', '0'))
const count = Number(option('count', '10'))
const only = option('task', '')
if (!Number.isInteger(first) || !Number.isInteger(count)) throw new Error('--seed and --count need integers')
for (const task of NANO_TASKS) {
  if (only !== '' && task !== only) continue
  for (let seed = first; seed < first + count; seed++) {
    const { image, ...item } = nanoItem(task, seed)
    const rgb = image === undefined ? undefined : Buffer.from(image.data).toString('base64')
    process.stdout.write(`${JSON.stringify({ ...item, rgb })}\n`)
  }
}
