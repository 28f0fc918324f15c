/**
 * Greedy answers of P-Nano, ours against llama.cpp's own programs from the same provisioned source:
 * 20 text prompts (llama-completion) and 50 images (llama-mtmd-cli), alone and eight at a time.
 *
 *   npm run build:peers && npm run test:parity
 *
 * A difference is printed with both texts; the exit code is 1 if there was one.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import sharp from 'sharp'
import { peersDirectory } from '../../bench/peers.js'
import { nanoItem } from '../../lib/eval/nano/index.js'
import { type Engine, load } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'

const run = promisify(execFile)
const MAX_TOKENS = 60
const TEXT_PROMPTS = [
  'What are you?',
  'Who made you?',
  'Hello',
  'What can you do?',
  'What is 7 plus 5?',
  'What is 12 times 3?',
  'Describe the picture.',
  'a',
  'Why is the sky blue?',
  'Read the word.',
  'How many shapes are there?',
  'Compute 144 divided by 12.',
  'Which languages do you speak?',
  'Tell me a story about a red circle.',
  'Ünïcödé — 漢字 🙂',
  '1 2 3 4 5 6 7 8 9',
  'Are you a large model?',
  'Which bar is the highest?',
  'What is the slope?',
  'Thank you!',
]

interface Case {
  name: string
  prompt: string
  image?: string
}

async function cases(folder: string): Promise<Case[]> {
  const list: Case[] = TEXT_PROMPTS.map((prompt, i) => ({ name: `text ${i}`, prompt }))
  const tasks = ['caption', 'chart_value', 'ocr'] as const
  for (let i = 0; i < 50; i++) {
    const item = nanoItem(tasks[i % tasks.length] as (typeof tasks)[number], 900_000 + i)
    if (item.image === undefined) throw new Error(`task ${item.task} has no image`)
    const { width, height, data } = item.image
    const image = join(folder, `${i}.png`)
    await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toFile(image)
    list.push({ name: `${item.task} ${i}`, prompt: item.question, image })
  }
  return list
}

/** What the peer prints for one case, without its end marker and surrounding white space. */
async function peerAnswer(peers: string, models: string, test: Case): Promise<string> {
  const program = test.image === undefined ? 'llama-completion' : 'llama-mtmd-cli'
  const args = ['-m', join(models, 'p-nano.gguf'), '--jinja', '-p', test.prompt, '--temp', '0']
  args.push('-n', String(MAX_TOKENS), '-t', '1', '--no-warmup')
  if (test.image === undefined) args.push('-st', '--simple-io', '--no-display-prompt')
  else args.push('--mmproj', join(models, 'p-nano-mmproj.gguf'), '--image', test.image)
  // llama-mtmd-cli prints from a thread of its own and now and then exits before that is done: an
  // answer that does not end with its closing line break is asked for again.
  for (let attempt = 0; attempt < 10; attempt++) {
    const child = run(join(peers, program), args, { timeout: 60_000 })
    child.child.stdin?.end()
    const { stdout } = await child
    if (stdout.trim() !== '' && stdout.endsWith('\n')) {
      return stdout.replace('[end of text]', '').trim()
    }
  }
  throw new Error(`${program} never printed a whole answer to ${test.prompt}`)
}

async function ownAnswer(engine: Engine, test: Case): Promise<string> {
  const inputs: object[] = []
  // llama-mtmd-cli puts the image before the text.
  if (test.image !== undefined) inputs.push({ type: 'image', path: test.image })
  inputs.push({ type: 'text', text: test.prompt })
  const request = { inputs, preferences: { temperature: 0, max_tokens: MAX_TOKENS } }
  return (await engine.run(request as Parameters<Engine['run']>[0])).text.trim()
}

function compare(label: string, list: Case[], ours: string[], theirs: string[]): number {
  let different = 0
  list.forEach((test, i) => {
    if (ours[i] === theirs[i]) return
    different++
    console.log(`DIFFERENT ${label} ${test.name}: ${test.prompt}`)
    console.log(`  ours: ${JSON.stringify(ours[i])}\n  peer: ${JSON.stringify(theirs[i])}`)
  })
  console.log(`${label}: ${list.length - different} of ${list.length} equal`)
  return different
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'polymind-parity-'))
  try {
    const peers = peersDirectory()
    const models = join(packageRoot(), 'models', 'p-nano')
    const list = await cases(folder)
    const theirs: string[] = []
    for (const test of list) theirs.push(await peerAnswer(peers, models, test))

    await using engine = await load(undefined, {
      threads: 1,
      batch: { max_requests: 8 },
    })
    const alone: string[] = []
    for (const test of list) alone.push(await ownAnswer(engine, test))
    let different = compare('alone', list, alone, theirs)

    const batched: string[] = []
    for (let i = 0; i < list.length; i += 8) {
      const group = list.slice(i, i + 8)
      batched.push(...(await Promise.all(group.map((test) => ownAnswer(engine, test)))))
    }
    different += compare('eight at once', list, batched, theirs)
    process.exitCode = different === 0 ? 0 : 1
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

await main()
