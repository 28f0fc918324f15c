import { describe, expect, it } from 'vitest'
import { runFixture } from '../helpers/real.js'

describe('the process ends by itself', () => {
  it.each(['shared', 'undisposed', 'alive', 'unconsumed', 'failed', 'exit'])(
    '%s',
    async (scenario) => {
      const result = await runFixture('exit.ts', [scenario], 45_000)
      expect(result).toEqual({ code: 0, signal: null, stdout: 'done', stderr: '' })
    },
  )
})
