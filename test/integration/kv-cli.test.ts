import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { mm } from '../helpers/real.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'polymind-kv-cli-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('mm inspect --kv', () => {
  it('draws pages of every kind under its load', async () => {
    const file = join(folder, 'pool.svg')
    const result = await mm('inspect', '--kv', '--out', file, '--requests', '4', '--json')
    expect(result).toMatchObject({ code: 0, stderr: '' })
    const report = JSON.parse(result.stdout)
    expect(report).toMatchObject({ file, requests: 4 })
    expect(report.groups).toHaveLength(1)
    const { states } = report.groups[0] as { states: string }
    for (const state of ['u', 's', 'c', '.']) expect(states).toContain(state)
    const svg = await readFile(file)
    expect(svg.toString()).toContain('KV cache of P-Nano')
    expect((await sharp(svg).metadata()).width).toBeGreaterThan(800)
  })

  it.each([
    [['inspect'], /expected a \.gguf file, or --kv/],
    [['inspect', '--kv', 'x.gguf'], /give it with --model/],
    [['inspect', '--kv', '--out', 'pool.png'], /expected a \.svg file/],
    [['inspect', '--kv', '--requests', '0'], /from 1 to 64/],
  ])('refuses %j', async (args, message) => {
    const result = await mm(...args)
    expect(result.stderr).toMatch(message)
    expect(result).toMatchObject({ code: 2, stdout: '' })
  })
})

describe('mm doctor', () => {
  it('says which kernels read the pages', async () => {
    const { code, stdout } = await mm('doctor', '--json')
    expect(code).toBe(0)
    const { kv } = JSON.parse(stdout)
    expect(kv).toMatchObject({ info: { memory: 'paged', dtype: 'int8' }, reason: null })
    expect((await mm('doctor')).stdout).toContain(`${kv.info.kernels} kernels`)
  })

  it('says why it cannot tell', async () => {
    const { stdout } = await mm('doctor', '--model', join(folder, 'none.gguf'), '--json')
    expect(JSON.parse(stdout).kv).toMatchObject({
      info: null,
      reason: expect.stringContaining('none.gguf'),
    })
  })
})

describe('mm eval nano --kv-dtype', () => {
  it.each(['bf16', 'stock'])('runs with %s', async (dtype) => {
    const args = ['--count', '1', '--seed', '9', '--kv-dtype', dtype, '--json']
    const result = await mm('eval', 'nano', ...args)
    expect(result).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(result.stdout).tasks.slope).toMatchObject({ n: 1 })
  })

  it('refuses another one', async () => {
    const result = await mm('eval', 'nano', '--kv-dtype', 'int4')
    expect(result).toMatchObject({ code: 2, stderr: expect.stringContaining('bf16, int8, fp8') })
  })
})
