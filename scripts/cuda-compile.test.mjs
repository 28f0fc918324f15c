import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { formatUsage, readPtxas } from './cuda-report.mjs'
import { explainPip } from './cuda-toolchain.mjs'

const PTXAS = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'pm_kv_write' for 'sm_90'
ptxas info    : Function properties for pm_kv_write
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 0 barriers
ptxas info    : Compiling entry function 'pm_attention_c2_r1' for 'sm_90'
ptxas info    : Function properties for pm_attention_c2_r1
    8 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 8 bytes cumulative stack size, 1824 bytes smem
`

describe('the report of ptxas', () => {
  it('is read kernel by kernel', () => {
    expect(readPtxas(PTXAS)).toEqual([
      { kernel: 'pm_attention_c2_r1', registers: 40, shared: 1824, stack: 8, spilled: 12 },
      { kernel: 'pm_kv_write', registers: 30, shared: 0, stack: 0, spilled: 0 },
    ])
    expect(readPtxas('ptxas info    : 0 bytes gmem')).toEqual([])
  })

  it('is never half understood', () => {
    expect(() => readPtxas(PTXAS.replace('Used 30 registers', ''))).toThrow(/pm_kv_write.*Used/)
  })

  it('is shown as a table with a column for each architecture', () => {
    const usages = readPtxas(PTXAS)
    const lines = formatUsage(
      new Map([
        ['sm_90', usages],
        ['sm_120', usages.slice(1)],
      ]),
    ).split('\n')
    expect(lines[0]).toMatch(/^kernel +sm_90 +sm_120$/)
    expect(lines[1]).toMatch(/^pm_attention_c2_r1 +40 regs, 1824 B shared, 12 B spilled +-$/)
    expect(lines[2]).toMatch(/^pm_kv_write +30 regs, 0 B shared +30 regs, 0 B shared$/)
  })
})

describe('failures of pip', () => {
  const code = (output, extra = {}) =>
    explainPip(Object.assign(new Error('pip'), { output }, extra)).code

  it('are told apart', () => {
    expect(code('', { code: 'TOOL_MISSING' })).toBe('TOOL_MISSING')
    expect(code('/usr/bin/python3: No module named pip')).toBe('TOOL_MISSING')
    expect(code('ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.')).toBe(
      'ARCHIVE_TAMPERED',
    )
    expect(code('NewConnectionError: Temporary failure in name resolution')).toBe('NETWORK')
    expect(code('OSError: [Errno 28] No space left on device')).toBe('DISK_FULL')
    expect(code('something else')).toBe('COMMAND_FAILED')
  })
})

describe('the pins', () => {
  it('are of one release, with a hash for each platform', () => {
    const text = readFileSync(new URL('cuda-requirements.txt', import.meta.url), 'utf8')
    const pins = text
      .replaceAll('\\\n', ' ')
      .split('\n')
      .filter((line) => line.startsWith('nvidia-'))
    expect(pins).toHaveLength(5)
    for (const pin of pins) {
      expect(pin).toMatch(/==13\.0\.\d+ /)
      expect(pin.match(/--hash=sha256:[0-9a-f]{64}/g)).toHaveLength(2)
    }
  })
})
