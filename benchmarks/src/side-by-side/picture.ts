/* The result as a picture for the docs: bar charts of what matters, then the table with the ratios, as one SVG. */
import { median } from '../report/statistics.ts'
import { box, document, line, text } from '../report/svg.ts'
import { figure } from '../report/table.ts'
import { compare } from './compare.ts'
import type { Result } from './result.ts'
import { type Row, valuesOf } from './rows.ts'

const CHARTS: [id: string, title: string, hint: string][] = [
  ['W3.stepsPerSecond', 'W3 steps/s', 'more is better'],
  ['W3.cpuSeconds', 'W3 CPU s per 1,000 steps', 'less is better'],
  ['W1.p50Ms', 'W1 one step, p50 ms', 'less is better'],
  ['W2.p50Ms', 'W2 ten steps, p50 ms', 'less is better'],
  ['W4.p50Ms', 'W4 1,000 steps, ms', 'less is better'],
  ['W5.p50Ms', 'W5 500 parallel, ms', 'less is better'],
]
const TABLE_ROWS = [
  'W1.p50Ms',
  'W1.p99Ms',
  'W2.p50Ms',
  'W2.p99Ms',
  'W3.stepsPerSecond',
  'W3.cpuSeconds',
  'W3.walBytes',
  'W3.commits',
  'W4.p50Ms',
  'W4.longRunMs',
  'W5.p50Ms',
  'W6.p50Ms',
  'W6.p99Ms',
]

const WIDTH = 960
const MARGIN = 24
const CHARTS_PER_LINE = 3
const CHART_GAP = 24
const CHART_WIDTH = (WIDTH - 2 * MARGIN - (CHARTS_PER_LINE - 1) * CHART_GAP) / CHARTS_PER_LINE
const BAR_HEIGHT = 16
const BAR_STEP = 22
const NAME_WIDTH = 90
const FIGURE_WIDTH = 56
const TABLE_LABEL_WIDTH = 340
const TABLE_STEP = 22
const HEAD_HEIGHT = 76
const NOTE_STEP = 16
const NOTE_CHARS = 160
/** A bar that would dwarf the others is cut, and says so. */
const CUT_ABOVE_SECOND = 2.5

const STYLE = `
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 18px; font-weight: 600 }
.strong { font-weight: 600 }
.quiet { fill: #656d76; font-size: 11px }
.rule { stroke: #d0d7de }
.ground { fill: #ffffff }
.ours { fill: #0a7d5c }
.peer { fill: #9aa4b2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #9198a1 } .rule { stroke: #3d444d } .ground { fill: #0d1117 }
  .ours { fill: #2ea97f } .peer { fill: #656d76 }
}`

export function toPicture(result: Result): string {
  const names = result.systems.map(({ name }) => name)
  const charts = CHARTS.map(([id, title, hint]) => ({ row: result.rows.find(row => row.id === id), title, hint }))
  const chartHeight = 30 + names.length * BAR_STEP + CHART_GAP
  const chartsHeight = Math.ceil(charts.length / CHARTS_PER_LINE) * chartHeight
  const rows = result.rows.filter(row => TABLE_ROWS.includes(row.id))
  const tableY = HEAD_HEIGHT + chartsHeight
  const notes = notesOf(result)
  const notesY = tableY + (rows.length + 2) * TABLE_STEP
  const height = notesY + notes.length * NOTE_STEP + MARGIN
  const parts = [
    box({ x: 0, y: 0, width: WIDTH, height, className: 'ground' }),
    text('Stepwell and its peers, side by side', { x: MARGIN, y: 34, className: 'title' }),
    text(subtitleOf(result), { x: MARGIN, y: 54, className: 'quiet' }),
    ...charts.flatMap(({ row, title, hint }, at) => {
      const x = MARGIN + (at % CHARTS_PER_LINE) * (CHART_WIDTH + CHART_GAP)
      const y = HEAD_HEIGHT + Math.floor(at / CHARTS_PER_LINE) * chartHeight
      return row === undefined ? [] : chart({ row, names, title, hint, x, y })
    }),
    ...tableOf({ rows, names, y: tableY }),
    ...notes.map((note, at) => text(note, { x: MARGIN, y: notesY + at * NOTE_STEP, className: 'quiet' })),
  ]
  return document({ width: WIDTH, height, title: 'Stepwell and its peers, side by side', style: STYLE, parts })
}

function chart(given: { row: Row; names: readonly string[]; title: string; hint: string; x: number; y: number }) {
  const { row, names, title, hint, x, y } = given
  const values = names.map(name => median(valuesOf(row, name)))
  const [first = 0, second = first] = values.filter(value => !Number.isNaN(value)).sort((a, b) => b - a)
  const full = Math.min(first, second * CUT_ABOVE_SECOND)
  const room = CHART_WIDTH - NAME_WIDTH - FIGURE_WIDTH
  const bars = names.flatMap((name, at) => {
    const value = values[at] ?? Number.NaN
    const barY = y + 30 + at * BAR_STEP
    const width = Number.isNaN(value) || full === 0 ? 0 : Math.max(1, (Math.min(value, full) / full) * room)
    const shown = value > full ? `${figure(value)} »` : figure(value)
    return [
      text(name, { x, y: barY + 12, className: at === 0 ? 'strong' : '' }),
      box({ x: x + NAME_WIDTH, y: barY, width, height: BAR_HEIGHT, className: at === 0 ? 'ours' : 'peer' }),
      text(shown, { x: x + NAME_WIDTH + width + 6, y: barY + 12, className: at === 0 ? 'strong' : '' }),
    ]
  })
  const hintAt = { x: x + CHART_WIDTH, y: y + 14, className: 'quiet', anchor: 'end' as const }
  return [text(title, { x, y: y + 14, className: 'strong' }), text(hint, hintAt), ...bars]
}

function tableOf({ rows, names, y }: { rows: readonly Row[]; names: readonly string[]; y: number }): string[] {
  const [ours = '', ...peers] = names
  const column = (WIDTH - 2 * MARGIN - TABLE_LABEL_WIDTH) / names.length
  const place = (at: number, lineY: number, className: string) =>
    ({ x: MARGIN + TABLE_LABEL_WIDTH + (at + 1) * column, y: lineY, className, anchor: 'end' }) as const
  const head = names.map((name, at) => text(name, place(at, y, 'strong')))
  const lines = rows.flatMap((row, at) => {
    const lineY = y + (at + 1) * TABLE_STEP
    const { ratios } = compare(row, { ours, peers })
    const cells = names.map((name, index) => {
      const value = figure(median(valuesOf(row, name)))
      const ratio = ratios[name]?.median ?? Number.NaN
      const shown = index === 0 || Number.isNaN(ratio) ? value : `${value} (${figure(ratio)} x)`
      return text(shown, place(index, lineY, index === 0 ? 'strong' : ''))
    })
    const label = row.id === 'W4.longRunMs' ? row.group.replace('  ', ' ') : `${row.id.slice(0, 2)} ${row.label}`
    return [
      line({ x: MARGIN, y: lineY - 16, width: WIDTH - 2 * MARGIN }),
      text(label, { x: MARGIN, y: lineY, className: '' }),
      ...cells,
    ]
  })
  return [...head, ...lines]
}

function subtitleOf({ machine, mode, rounds, at }: Result): string {
  const { cores, cpu, system, node, postgres } = machine
  const howOften = rounds === 1 ? 'one round' : `medians of ${rounds} rounds`
  const how = mode === 'quick' ? `quick, ${howOften}` : howOften
  return `${at.slice(0, 10)}, ${cores} x ${cpu}, ${system}, Node ${node}, Postgres ${postgres}, fsync on; ${how}; in brackets: Stepwell / peer, paired`
}

function notesOf({ rows, systems, missing }: Result): string[] {
  const groups = [...new Set(rows.map(({ group }) => group.replace('  ', ' ')))]
  const versions = systems.map(({ name, facts }) => `${name} ${Object.values(facts.versions)[0] ?? ''}`)
  const guarantees = systems.map(({ name, facts }) => `${name}: ${facts.guarantee}`)
  const lines = [...inLines(groups, '; '), ...inLines(versions, ', '), ...guarantees, ...missing]
  return lines.map(text => (text.length > NOTE_CHARS ? `${text.slice(0, NOTE_CHARS)}…` : text))
}

/** As many to a line as fit. */
function inLines(texts: readonly string[], separator: string): string[] {
  const lines: string[] = []
  for (const text of texts) {
    const last = lines.at(-1)
    if (last === undefined || last.length + separator.length + text.length > NOTE_CHARS) lines.push(text)
    else lines[lines.length - 1] = last + separator + text
  }
  return lines
}
