import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROOT, requireBuilt, runProgram } from '../helpers/real.js'

// Inside the repository, so that `polymind-native` resolves as it does for its users.
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(ROOT, 'build', 'kv-docs-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const text = await readFile(join(ROOT, 'docs', 'kv-cache.md'), 'utf8')
const examples = [...text.matchAll(/<!-- test -->\n```ts\n([\s\S]*?)```/g)].map(([, code]) => code)

describe('docs/kv-cache.md', () => {
  it('has examples', () => expect(examples.length).toBeGreaterThan(0))

  it.each(examples.map((code, i) => [i + 1, code] as const))('example %i runs', async (i, code) => {
    requireBuilt(`${ROOT}dist/index.js`)
    const file = join(folder, `example-${i}.ts`)
    await writeFile(file, code ?? '')
    const result = await runProgram(['--import', 'tsx', file])
    expect(result).toMatchObject({ code: 0, stderr: '' })
    expect(result.stdout).toMatch(/^paged int8 .* 2112/)
    // The second question continues from the system message.
    const [, second] = [...result.stdout.matchAll(/(\d+) of \d+ tokens were known/g)]
    expect(Number(second?.[1])).toBeGreaterThanOrEqual(32)
  })
})
