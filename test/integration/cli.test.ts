import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { nanoItem } from '../../lib/eval/nano/index.js'
import { defaultModel } from '../../lib/load.js'
import { CLI, mm, requireBuilt, runProgram } from '../helpers/real.js'

let folder: string
let chart: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'polymind-cli-'))
  chart = join(folder, 'chart.png')
  const { image } = nanoItem('slope', 12)
  if (image === undefined) throw new Error('slope items have an image')
  const { width, height, data } = image
  await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(chart)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('mm run', () => {
  it('streams an answer and shows the tool call on stderr', async () => {
    const { question } = nanoItem('slope', 12)
    const { code, stdout, stderr } = await mm('run', question, '--image', chart)
    expect(code).toBe(0)
    expect(stdout.trim().length).toBeGreaterThan(0)
    expect(stdout).not.toContain('<tool_call>')
    expect(stderr).toMatch(/^→ slope \{.*\}\n← /m)
  })

  it('prints one document with --json', async () => {
    const { code, stdout, stderr } = await mm('run', 'What are you?', '--json', '--seed', '5')
    expect(code).toBe(0)
    expect(stderr).toBe('')
    const document = JSON.parse(stdout)
    expect(Object.keys(document).sort()).toEqual(
      ['finish_reason', 'model', 'seed', 'text', 'timings', 'tool_calls', 'usage'].sort(),
    )
    expect(document.seed).toBe(5)
  })

  it('reads the question from a pipe', async () => {
    const piped = await runProgram([requireBuilt(CLI), 'run'], { input: 'What are you?\n' })
    const given = await mm('run', 'What are you?')
    expect(piped.code).toBe(0)
    expect(piped.stdout).toBe(given.stdout)
  })

  it('takes limits, stop strings, a system message and no tools', async () => {
    const { code, stdout } = await mm(
      ...['run', 'What are you?', '--max-tokens', '2', '--stop', 'zzz', '--system', 'Be brief.'],
      ...['--no-tools', '--temperature', '0.5', '--budget-ms', '5000', '--json'],
    )
    expect(code).toBe(0)
    expect(JSON.parse(stdout).usage.output_tokens).toBeLessThanOrEqual(2)
  })

  it.each([
    [2, ['run'], /nothing to answer/],
    [2, ['run', 'x', '--temperature', 'hot'], /temperature/],
    [2, ['run', 'x', '--temperature', '-1'], /preferences\.temperature/],
    [2, ['run', 'x', '--tools', 'nope'], /unknown tool nope; built in are calculator, slope/],
    [2, ['run', 'x', '--mmproj', 'y'], /--mmproj needs --model/],
    [2, ['run', 'x', '--imaeg', 'y'], /unknown option.*\n?.*--image/],
    [2, ['walk'], /unknown command/],
    [1, ['run', 'x', '--image', '/no/such.png'], /MM_MEDIA_INVALID.*no such file/],
    [1, ['run', 'x', '--model', '/no/such.gguf'], /MM_MODEL_NOT_FOUND/],
    [1, ['serve', '--port', '80'], /MM_ENGINE_UNAVAILABLE.*arrives with/],
    [1, ['assemble', 'x'], /MM_ENGINE_UNAVAILABLE.*arrives with/],
    [1, ['verify', 'x'], /MM_ENGINE_UNAVAILABLE.*arrives with/],
    [1, ['quantize', 'x'], /MM_ENGINE_UNAVAILABLE.*arrives with/],
  ])('exits with %i for %j', async (code, args, message) => {
    const result = await mm(...args)
    expect(result.stderr).toMatch(message)
    expect(result.stderr).not.toMatch(/\n {4}at /)
    expect(result.stdout).toBe('')
    expect(result.code).toBe(code)
  })

  it('prints the error as a document with --json, the stack with --verbose', async () => {
    const json = await mm('run', 'x', '--model', '/no/such.gguf', '--json')
    expect(JSON.parse(json.stdout)).toMatchObject({ error: { code: 'MM_MODEL_NOT_FOUND' } })
    expect(json.code).toBe(1)
    const verbose = await mm('run', 'x', '--model', '/no/such.gguf', '--verbose')
    expect(verbose.stderr).toMatch(/\n {4}at /)
  })
})

describe('mm chat', () => {
  const chat = (input: string, ...args: string[]) =>
    runProgram([requireBuilt(CLI), 'chat', ...args], { input })

  it('answers line by line and ends with its input', async () => {
    const { code, stdout } = await chat('What are you?\n/reset\nWhat are you?\n')
    expect(code).toBe(0)
    const [first, second] = stdout.trim().split('\n')
    expect(first).toBe(second)
  })

  it('looks at an image over several turns', async () => {
    const input = `/image ${chart}\n${nanoItem('slope', 12).question}\nWhat are you?\n/quit\nnever read\n`
    const { code, stdout } = await chat(input, '--json')
    expect(code).toBe(0)
    const { messages } = JSON.parse(stdout)
    const roles = messages.map((message: { role: string }) => message.role)
    expect(roles.filter((role: string) => role === 'user')).toHaveLength(2)
    expect(roles).toContain('tool')
    expect(roles.at(-1)).toBe('assistant')
  })

  it('goes on after a turn that failed', async () => {
    const { code, stdout, stderr } = await chat(
      '/image /no/such.png\nhello\n/reset\nWhat are you?\n',
    )
    expect(stderr).toContain('MM_MEDIA_INVALID')
    expect(stdout.trim().length).toBeGreaterThan(0)
    expect(code).toBe(0)
  })

  it('keeps a history only its owner may read', async () => {
    const file = join(folder, 'history')
    await chat('What are you?\n', '--history', file)
    await readFile(file, 'utf8')
    const { stat } = await import('node:fs/promises')
    if (process.platform !== 'win32') expect((await stat(file)).mode & 0o077).toBe(0)
  })
})

describe('mm inspect', () => {
  it('describes a model, as a table and as a document', async () => {
    const table = await mm('inspect', defaultModel().model)
    expect(table.code).toBe(0)
    expect(table.stdout).toContain('general.architecture')
    const json = await mm('inspect', defaultModel().mmproj, '--json')
    expect(JSON.parse(json.stdout)).toMatchObject({ tensors: expect.any(Array) })
  })

  it('says what is wrong with a file', async () => {
    const bad = join(folder, 'bad.gguf')
    await writeFile(bad, 'not a model')
    expect(await mm('inspect', bad)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('MM_MODEL_INVALID'),
    })
    expect(await mm('inspect', '/no/such.gguf')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('MM_MODEL_NOT_FOUND'),
    })
  })
})

describe('mm doctor', () => {
  it('has the shape of the contract', async () => {
    const { code, stdout } = await mm('doctor', '--json')
    expect(code).toBe(0)
    const ability = { available: expect.any(Boolean) }
    expect(JSON.parse(stdout)).toMatchObject({
      node: process.version,
      addon: { available: true, path: expect.stringContaining('.node') },
      cpu: { features: expect.any(Array) },
      engines: {
        llama: { available: true, version: expect.any(String), reason: null },
        onnx: { ...ability, reason: expect.any(String) },
        executorch: { ...ability, reason: expect.any(String) },
      },
      gpu: { available: false, reason: expect.any(String) },
    })
  })

  it('says what is missing and how to get it', async () => {
    const result = await runProgram([requireBuilt(CLI), 'doctor'], {
      env: { POLYMIND_ADDON: '/no/such.node' },
    })
    expect(result.code).toBe(1)
    expect(result.stdout).toContain('npm run build')
  })
})

describe('mm eval nano', () => {
  it('prints fractions for every task', async () => {
    const { code, stdout, stderr } = await mm(
      'eval',
      'nano',
      '--seed',
      '7',
      '--count',
      '4',
      '--json',
    )
    expect(stderr).toBe('')
    expect(code).toBe(0)
    const report = JSON.parse(stdout)
    expect(report).toMatchObject({
      suite: 'nano',
      seed: 7,
      tasks: {
        caption: { n: 4, exact: expect.any(Number) },
        chart_value: { n: 4, within_5pct: expect.any(Number) },
        slope: { n: 4, exact: expect.any(Number) },
        ocr: { n: 4, exact: expect.any(Number) },
        tool_call: { n: 4, valid: expect.any(Number) },
      },
    })
    for (const { n, ...scores } of Object.values(report.tasks) as Record<string, number>[]) {
      expect(n).toBe(4)
      for (const score of Object.values(scores)) expect(score >= 0 && score <= 1).toBe(true)
    }
  })

  it('refuses nonsense', async () => {
    expect((await mm('eval', 'nano', '--count', '0')).code).toBe(2)
    expect((await mm('eval', 'everything')).code).toBe(2)
  })
})

describe('help and version', () => {
  it('exit with 0', async () => {
    expect(await mm('--help')).toMatchObject({ code: 0, stdout: expect.stringContaining('eval') })
    expect(await mm('run', '--help')).toMatchObject({ code: 0 })
    expect((await mm('--version')).stdout.trim()).toMatch(/^\d+\.\d+\.\d+/)
  })
})
