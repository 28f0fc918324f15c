import { defineConfig } from 'tsdown'

/**
 * Left outside, these are a hundred files, and opening them takes longer than everything else at
 * start. Declarations go on naming their types: those of a copy would be other types to the compiler.
 */
function bundled(...packages: string[]) {
  return {
    noExternal: (id: string, importer: string | undefined) =>
      packages.includes(id) && importer?.endsWith('.d.ts') !== true,
    inlineOnly: packages,
  }
}

// Warnings do not fail the build: under CI=true tsdown would otherwise fail on one that only says
// how long its plugins took.
// Two passes: the library in both module systems with declarations for each, and the
// command-line program, which is an ES module only and needs no declarations.
export default defineConfig([
  {
    entry: { index: 'lib/index.ts' },
    format: ['esm', 'cjs'],
    platform: 'node',
    target: 'node20.19',
    outDir: 'dist',
    dts: true,
    sourcemap: true,
    clean: false,
    fixedExtension: false,
    shims: true,
    failOnWarn: false,
    ...bundled('zod'),
  },
  {
    entry: { 'cli/main': 'lib/cli/main.ts' },
    format: ['esm'],
    platform: 'node',
    target: 'node20.19',
    outDir: 'dist',
    dts: false,
    failOnWarn: false,
    sourcemap: true,
    clean: false,
    fixedExtension: false,
    ...bundled('zod', 'commander'),
  },
])
