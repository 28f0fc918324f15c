/**
 * Writes the picture of an evaluation item as PNG and prints its question and answer.
 *
 *   tsx training/plot.ts FILE.png [--task slope] [--seed 350]
 */
import { writeFileSync } from 'node:fs'
import { type NanoTask, nanoItem } from '../lib/eval/nano/index.js'
import { encodePng } from '../lib/eval/nano/png.js'

const file = process.argv[2]
const option = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : (process.argv[at + 1] ?? fallback)
}
if (file === undefined || file.startsWith('--')) throw new Error('usage: plot.ts FILE.png')
const { image, ...item } = nanoItem(option('task', 'slope') as NanoTask, Number(option('seed', '350')))
if (image === undefined) throw new Error('this item has no picture')
writeFileSync(file, encodePng(image))
console.log(JSON.stringify(item))
