import { readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ROOT } from '../helpers/real.js'

// Opening a package's files costs more than all of ours together: whatever is not needed for every
// request is loaded on first use, and what is needed is copied into the bundle.
it.each(['index.js', 'index.cjs', 'cli/main.js'])(
  'dist/%s loads nothing but modules of Node when it starts',
  (file) => {
    const source = readFileSync(join(ROOT, 'dist', file), 'utf8')
    const imports = [
      ...source.matchAll(/^import .*?["']([^"']+)["'];?$/gm),
      ...source.matchAll(/^(?:const|let) .*?[= (]require\(["']([^"']+)["']\)/gm),
    ].map((match) => match[1])
    expect(imports.length).toBeGreaterThan(5)
    expect(imports.filter((name) => name !== undefined && !isBuiltin(name))).toEqual([])
    for (const lazy of ['sharp', 'ajv/dist/2020.js', 'node-gyp-build']) {
      expect(source).toMatch(new RegExp(`(import|\\w+)\\(["']${lazy}["']\\)`))
    }
  },
)

it('declarations name the types of zod instead of copying them', () => {
  for (const file of ['index.d.ts', 'index.d.cts']) {
    expect(readFileSync(join(ROOT, 'dist', file), 'utf8')).toMatch(/import .* from ["']zod["']/)
  }
})
