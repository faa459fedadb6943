import type { Measured } from './measure.ts'

/** A difference below this is noise on a machine that does other things too. */
const NOTEWORTHY = 1.25

/** One table, with the median of the last time beside it where there is one. */
export function printMicro(rows: Measured[], last: Map<string, Measured>): void {
  const heads = ['', 'operations/s', 'us each', 'p50', 'p95', 'us per item', 'WAL B per item', 'pg us per item', '']
  const lines = rows.map(row => [
    row.name,
    round(1e6 / row.meanUs),
    round(row.meanUs),
    round(row.p50Us),
    round(row.p95Us),
    round(row.meanUs / row.items),
    row.walBytes === null ? '' : round(row.walBytes),
    row.postgresUs === null ? '' : round(row.postgresUs),
    compare(row, last.get(row.name)),
  ])
  const widths = heads.map((head, at) => Math.max(head.length, ...lines.map(line => line[at]?.length ?? 0)))
  const pad = (cell: string, at: number) => {
    const isText = at === 0 || at === heads.length - 1
    return isText ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)
  }
  console.log(`\n${[heads, ...lines].map(line => line.map(pad).join('  ').trimEnd()).join('\n')}`)
}

function compare(row: Measured, before: Measured | undefined): string {
  if (before === undefined) return ''
  const factor = row.p50Us / before.p50Us
  const word = factor > NOTEWORTHY ? ' SLOWER' : factor < 1 / NOTEWORTHY ? ' faster' : ''
  return `${factor.toFixed(2)} x last time${word}`
}

/** Three digits that matter. */
function round(value: number): string {
  if (value === 0) return '0'
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))
  return value.toLocaleString('en', { maximumFractionDigits: decimals })
}
