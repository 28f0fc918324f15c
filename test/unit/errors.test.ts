import { expect, it, describe as suite } from 'vitest'
import {
  CallSite,
  describe,
  isMMError,
  MM_ERROR_CODES,
  MMError,
  mismatch,
} from '../../lib/errors.js'

suite('isMMError', () => {
  it('recognises errors of another copy of the package', async () => {
    const copy = (await import(
      '../../lib/errors.js?copy' as string
    )) as typeof import('../../lib/errors.js')
    const error = new copy.MMError('MM_TIMEOUT', 'late')
    expect(error).not.toBeInstanceOf(MMError)
    expect(isMMError(error)).toBe(true)
  })

  it('is not fooled by look-alikes', () => {
    for (const value of [undefined, null, 'MM_TIMEOUT', new Error('x'), { code: 'MM_TIMEOUT' }]) {
      expect(isMMError(value)).toBe(false)
    }
  })
})

suite('the contract', () => {
  it('keeps every code', () => {
    expect([...MM_ERROR_CODES].sort()).toEqual([
      'MM_ABI_MISMATCH',
      'MM_CANCELLED',
      'MM_CONTEXT_OVERFLOW',
      'MM_DEVICE_LOST',
      'MM_DISPOSED',
      'MM_ENGINE_UNAVAILABLE',
      'MM_INTERNAL',
      'MM_INVALID_REQUEST',
      'MM_MEDIA_INVALID',
      'MM_MODEL_INVALID',
      'MM_MODEL_NOT_FOUND',
      'MM_OUT_OF_MEMORY',
      'MM_TIMEOUT',
      'MM_TOOL_DENIED',
      'MM_TOOL_FAILED',
    ])
  })

  it('formats expected, where, actual', () => {
    const error = mismatch('MM_INVALID_REQUEST', {
      expected: 'a dog',
      where: 'pets[0]',
      received: 5,
    })
    expect(error.message).toBe('expected a dog for pets[0], received the number 5')
    expect(error.details).toEqual({ expected: 'a dog', where: 'pets[0]', received: 'the number 5' })
    expect(error).toBeInstanceOf(Error)
    expect(error.name).toBe('MMError')
  })

  it('describes any value in a few words', () => {
    class Thing {}
    const values = [
      undefined,
      null,
      'x'.repeat(9999),
      1,
      Number.NaN,
      1n,
      true,
      () => 1,
      [1, 2],
      {},
      new Thing(),
      new Uint8Array(9),
      Symbol('s'),
      Object.create(null),
    ]
    for (const value of values) expect(describe(value).length).toBeLessThan(90)
    expect(describe(new Thing())).toContain('Thing')
    expect(describe(new Uint8Array(9))).toBe('Uint8Array of 9 bytes')
  })
})

suite('CallSite', () => {
  it('gives MMErrors the stack of the caller and leaves others alone', () => {
    function entry() {
      return new CallSite(entry)
    }
    function caller() {
      return entry()
    }
    const site = caller()
    const error = site.adopt(new MMError('MM_INTERNAL', 'boo'))
    expect(error.stack).toMatch(/^MMError \[MM_INTERNAL\]: boo\n {4}at caller/)
    const foreign = new Error('x')
    const { stack } = foreign
    expect(site.adopt(foreign).stack).toBe(stack)
  })
})
