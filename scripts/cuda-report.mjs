// What `ptxas -v` says about each kernel.

/**
 * Resources of one kernel on one architecture.
 * @typedef {{ kernel: string, registers: number, shared: number, stack: number, spilled: number }} Usage
 */

/**
 * Reads the output of `nvcc -Xptxas -v`.
 * @param {string} text
 * @returns {Usage[]} by kernel name; `spilled` counts bytes stored and loaded
 * @throws {Error} when a kernel is announced and its figures are missing
 */
export function readPtxas(text) {
  const blocks = text.split(/ptxas info\s*: Compiling entry function '/).slice(1)
  const usages = blocks.map((block) => {
    const kernel = block.slice(0, block.indexOf("'"))
    const number = (pattern) => {
      const match = pattern.exec(block)
      if (!match) throw new Error(`${kernel}: expected ${pattern} in the output of ptxas`)
      return Number(match[1])
    }
    return {
      kernel,
      registers: number(/Used (\d+) registers/),
      shared: Number(/(\d+) bytes smem/.exec(block)?.[1] ?? 0),
      stack: number(/(\d+) bytes stack frame/),
      spilled: number(/(\d+) bytes spill stores/) + number(/(\d+) bytes spill loads/),
    }
  })
  return usages.sort((a, b) => a.kernel.localeCompare(b.kernel))
}

/**
 * One line a kernel, one column an architecture: registers, bytes of shared memory, and what does
 * not fit into registers.
 * @param {Map<string, Usage[]>} byArch
 * @returns {string}
 */
export function formatUsage(byArch) {
  const archs = [...byArch.keys()]
  const kernels = [...new Set([...byArch.values()].flat().map((usage) => usage.kernel))]
  const cell = (usage) => {
    if (!usage) return '-'
    const spill = usage.spilled > 0 ? `, ${usage.spilled} B spilled` : ''
    return `${usage.registers} regs, ${usage.shared} B shared${spill}`
  }
  const rows = kernels.map((kernel) => [
    kernel,
    ...archs.map((arch) => cell(byArch.get(arch).find((usage) => usage.kernel === kernel))),
  ])
  const table = [['kernel', ...archs], ...rows]
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)))
  const line = (row) => row.map((text, column) => text.padEnd(widths[column])).join('  ')
  return table.map((row) => line(row).trimEnd()).join('\n')
}
