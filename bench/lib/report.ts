import type { Row } from './compare.js'

const digits = (value: number): string =>
  value >= 1000 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3)

/** A table for the terminal and for docs/benchmarks.md: plain Markdown. */
export function formatTable(rows: readonly Row[]): string {
  const head = ['bench', 'case', 'unit', 'ours', 'peer', 'theirs', 'ratio']
  const body = rows.map((row) => [
    row.bench,
    row.case,
    row.unit,
    digits(row.ours),
    row.peer.name,
    digits(row.peer.value),
    row.ratio.toFixed(2),
  ])
  const widths = head.map((title, column) =>
    Math.max(title.length, ...body.map((line) => line[column]?.length ?? 0)),
  )
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`
  return [line(head), rule, ...body.map(line)].join('\n')
}
