import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLI, ROOT, requireBuilt, runProgram } from '../helpers/real.js'

// Inside the repository, so that `polymind-native` and zod resolve as they do for its users.
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(ROOT, 'build', 'readme-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const text = await readFile(join(ROOT, 'README.md'), 'utf8')

function blocks(language: string): string[] {
  const fence = new RegExp(`<!-- test -->\\n\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g')
  return [...text.matchAll(fence)].map((match) => match[1] ?? '')
}

describe('README.md', () => {
  it('has examples to run', () => {
    expect(blocks('ts').length).toBeGreaterThanOrEqual(4)
    expect(blocks('bash').length).toBeGreaterThanOrEqual(1)
  })

  it.each(blocks('ts').map((code, i) => [i + 1, code] as const))(
    'ts example %i runs',
    async (i, code) => {
      requireBuilt(`${ROOT}dist/index.js`)
      const file = join(folder, `example-${i}.ts`)
      await writeFile(file, code)
      const result = await runProgram(['--import', 'tsx', file])
      expect(result.stderr).toBe('')
      expect(result.code).toBe(0)
      expect(result.stdout.length).toBeGreaterThan(0)
    },
  )

  const lines = blocks('bash').flatMap((block) => block.trim().split('\n'))
  it.each(lines)('%s', async (line) => {
    const piped = /^echo "(.*)" \| (.*)$/.exec(line)
    const command = piped?.[2] ?? line
    const [program, ...args] = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(
      (m) => m[1] ?? m[2] ?? '',
    )
    expect(program).toBe('mm')
    const input = piped === null ? undefined : `${piped[1]}\n`
    const result = await runProgram([requireBuilt(CLI), ...args], { input })
    expect(result.stderr.replace(/^[→←].*\n/gm, '').trim()).toBe('')
    expect(result.code).toBe(0)
    expect(result.stdout.trim().length).toBeGreaterThan(0)
    if (args.includes('--json')) JSON.parse(result.stdout)
  })
})

describe('the package', () => {
  const program = 'const answer = await run({ inputs: [{ type: "text", text: "What are you?" }] })'
  it.each([
    [
      'ESM',
      'esm.mjs',
      `import { run } from 'polymind-native'\n${program}\nconsole.log(answer.text)`,
    ],
    [
      'CommonJS',
      'cjs.cjs',
      `const { run, MMError, isMMError } = require('polymind-native')\n;(async () => {\n${program}\n` +
        `if (!isMMError(new MMError('MM_TIMEOUT', 'x'))) throw 1\nconsole.log(answer.text)\n})()`,
    ],
  ])('works from %s', async (_, name, code) => {
    const file = join(folder, name)
    await writeFile(file, code)
    const result = await runProgram([file])
    expect(result).toMatchObject({ code: 0, stderr: '' })
    expect(result.stdout.trim().length).toBeGreaterThan(0)
  })

  it('knows errors of its other half: ESM and CommonJS in one process', async () => {
    const file = join(folder, 'both.mjs')
    await writeFile(
      file,
      `import { isMMError } from 'polymind-native'
       import { createRequire } from 'node:module'
       const { MMError } = createRequire(import.meta.url)('polymind-native')
       console.log(isMMError(new MMError('MM_TIMEOUT', 'x')))`,
    )
    expect(await runProgram([file])).toMatchObject({ code: 0, stdout: 'true\n' })
  })
})
