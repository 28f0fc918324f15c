import { defineConfig } from 'tsdown'

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
  },
])
