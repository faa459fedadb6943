/* The result for a terminal: figures, ratios, goals, and what stands behind each figure. */
import { median } from '../report/statistics.ts'
import { figure, table } from '../report/table.ts'
import { compare } from './compare.ts'
import type { Result } from './result.ts'
import { type Row, valuesOf } from './rows.ts'

/** Rows worth a ratio; the others explain these. */
const RATIO_ROWS = [
  'W1.p50Ms',
  'W1.p99Ms',
  'W2.p50Ms',
  'W2.p99Ms',
  'W3.stepsPerSecond',
  'W3.cpuSeconds',
  'W3.walBytes',
  'W3.commits',
  'W4.p50Ms',
  'W4.cpuSeconds',
  'W4.longRunMs',
  'W5.p50Ms',
  'W6.p50Ms',
  'W6.p99Ms',
]

export function toText(result: Result): string {
  const parts = [heading(result), figures(result), ratios(result), goals(result), behind(result)]
  return `${parts.filter(part => part !== '').join('\n\n')}\n`
}

function heading({ machine, mode, rounds, at }: Result): string {
  const { cores, cpu, memoryBytes, system, node, postgres } = machine
  const memory = `${Math.round(memoryBytes / 2 ** 30)} GiB`
  const what =
    mode === 'quick'
      ? 'quick: one round, smaller bursts; figures wander more'
      : rounds === 1
        ? 'one round'
        : `medians of ${rounds} rounds`
  return `${cores} x ${cpu}, ${memory}, ${system}, Node ${node}, Postgres ${postgres}, fsync on\n${at}, ${what}`
}

function figures({ rows, systems }: Result): string {
  const names = systems.map(({ name }) => name)
  const lines: string[][] = [['', ...names]]
  let group = ''
  for (const row of rows) {
    if (row.group !== group) lines.push([''], [row.group])
    group = row.group
    lines.push([`  ${row.label}`, ...names.map(name => figure(median(valuesOf(row, name))))])
  }
  return table(lines)
}

function ratios({ rows, systems }: Result): string {
  const [ours = '', ...peers] = systems.map(({ name }) => name)
  if (peers.length === 0) return ''
  const lines = [['Stepwell / peer, paired: median (min to max)', ...peers]]
  for (const row of rows.filter(({ id }) => RATIO_ROWS.includes(id))) {
    const { ratios } = compare(row, { ours, peers })
    const cell = (peer: string) => {
      const { median, min, max } = ratios[peer] ?? { median: Number.NaN, min: Number.NaN, max: Number.NaN }
      if (Number.isNaN(median)) return '-'
      return min === max ? `${figure(median)} x` : `${figure(median)} x (${figure(min)} to ${figure(max)})`
    }
    lines.push([`  ${row.id.slice(0, 2)} ${shortLabel(row)}`, ...peers.map(cell)])
  }
  return table(lines)
}

function goals({ goals, bytesToApp }: Result): string {
  const lines = [['Must hold', 'goal', 'measured', '']]
  for (const { what, goal, measured, verdict, short } of goals)
    lines.push([`  ${what}`, goal, measured, `${verdict} ${short}`.trim()])
  lines.push(['  scale curves', '<= 1.5 x', '-', 'see: bench scale'])
  const bytes =
    bytesToApp === null
      ? ''
      : `\n  (${figure(bytesToApp.ofManySteps)} bytes reached the app for ${figure(bytesToApp.manySteps)} steps, ${figure(bytesToApp.ofOneStep)} for 1)`
  return table(lines) + bytes
}

function behind({ systems, missing }: Result): string {
  const lines = systems.map(({ name, facts }) => {
    const versions = Object.entries(facts.versions).map(([what, version]) => `${what} ${version}`)
    return [`${name}: ${facts.guarantee}`, `  ${versions.join(', ')}`, ...facts.settings.map(text => `  ${text}`)].join(
      '\n',
    )
  })
  return [...lines, ...missing.map(text => `Missing: ${text}`)].join('\n')
}

function shortLabel(row: Row): string {
  return row.id === 'W4.longRunMs' ? `${row.group.slice(4)} ms` : row.label
}
