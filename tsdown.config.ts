import { defineConfig } from 'tsdown'

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
  },
  {
    entry: { 'cli/main': 'lib/cli/main.ts' },
    format: ['esm'],
    platform: 'node',
    target: 'node20.19',
    outDir: 'dist',
    dts: false,
    sourcemap: true,
    clean: false,
    fixedExtension: false,
  },
])
