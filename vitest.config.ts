import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['{lib,test,bench,third_party,scripts}/**/*.test.{ts,mjs}'],
    exclude: ['**/node_modules/**', 'dist/**', 'build/**'],
    // Files that need the addon share one machine with a model each: few of them at a time.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
    typecheck: { enabled: true, include: ['test/**/*.test-d.ts'], tsconfig: 'tsconfig.json' },
  },
})
