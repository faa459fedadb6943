import { DISK_TABLES } from './coefficients.ts'
import type { Observed } from './observe.ts'
import type { Needs, Shape } from './predict.ts'

const DAY_SECONDS = 86_400
/** How full cores should be on average: the rest is for the busy minutes. */
const CORES_USED = 0.6

export function printNeeds(given: {
  shape: Shape
  retentionDays: number
  needs: Needs & { engines: number }
  machine: string
}): void {
  const { shape, retentionDays, needs, machine } = given
  const perDay = DISK_TABLES.map(table => needs.diskBytes[table] * DAY_SECONDS)
  const dayBytes = perDay.reduce((sum, bytes) => sum + bytes, 0)
  const rows: [string, string, string][] = [
    [
      'engine',
      `${needs.engineCores.toFixed(2)} cores`,
      `${needs.engines} process${needs.engines === 1 ? '' : 'es'}; one uses one core`,
    ],
    ['Postgres', `${needs.postgresCores.toFixed(2)} cores`, `give it ${coresToHave(needs.postgresCores)}`],
    ['app', `${needs.appCores.toFixed(2)} cores`, 'for the SDK; what your steps do comes on top'],
    ['commits', `${needs.transactions.toFixed(0)}/s`, ''],
    ['WAL flushes', `${needs.walFlushes.toFixed(0)}/s`, 'synchronous writes that the disk must take'],
    ['WAL', `${bytes(needs.walBytes)}/s`, `${bytes(needs.walBytes * DAY_SECONDS)} a day to archive or replicate`],
    ['network', `${bytes(needs.networkBytes)}/s`, 'of the engines, with apps and Postgres together'],
    ['disk', `${bytes(dayBytes)}/day`, `${bytes(dayBytes * retentionDays)} for ${retentionDays} days`],
    ...DISK_TABLES.map((table, at): [string, string, string] => [`  ${table}`, `${bytes(perDay[at] ?? 0)}/day`, '']),
  ]
  const { runsPerSecond, steps, payloadBytes } = shape
  console.log(`${runsPerSecond} runs/s of ${steps} steps, ${bytes(payloadBytes)} in the event and in each output`)
  console.log(`on cores like ${machine}\n`)
  printColumns(rows)
}

export function printCheck(given: { asked: Shape; observed: Observed; predicted: Needs }): void {
  const { asked, observed, predicted } = given
  const { needs, shape } = observed
  console.log(`\nChecked here: ${shape.runsPerSecond.toFixed(1)} runs/s were done.`)
  if (!observed.keptUp)
    console.log(`This machine cannot do ${asked.runsPerSecond}: the comparison is with what it did, full as it was.`)
  const figures: [string, number, number, (value: number) => string][] = [
    ['engine cores', predicted.engineCores, needs.engineCores, value => value.toFixed(2)],
    ['Postgres cores', predicted.postgresCores, needs.postgresCores, value => value.toFixed(2)],
    ['app cores', predicted.appCores, needs.appCores, value => value.toFixed(2)],
    ['commits/s', predicted.transactions, needs.transactions, value => value.toFixed(0)],
    ['WAL flushes/s', predicted.walFlushes, needs.walFlushes, value => value.toFixed(0)],
    ['WAL/s', predicted.walBytes, needs.walBytes, bytes],
    ['network/s', predicted.networkBytes, needs.networkBytes, bytes],
    ...DISK_TABLES.map((table): [string, number, number, (value: number) => string] => [
      `${table}/s`,
      predicted.diskBytes[table],
      needs.diskBytes[table],
      bytes,
    ]),
  ]
  const rows = figures.map(([name, expected, found, show]) => {
    const offPercent = (expected / found - 1) * 100
    return [name, show(expected), show(found), `${offPercent > 0 ? '+' : ''}${offPercent.toFixed(0)} %`]
  })
  console.log()
  printColumns([['', 'predicted', 'measured', 'off by'], ...rows])
}

function coresToHave(cores: number): number {
  return Math.max(1, Math.ceil(cores / CORES_USED))
}

function printColumns(rows: string[][]): void {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map(row => row[at]?.length ?? 0)))
  for (const row of rows)
    console.log(
      row
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join('  ')
        .trimEnd(),
    )
}

function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let at = 0
  let value = count
  for (; value >= 1_024 && at < units.length - 1; at += 1) value /= 1_024
  return `${value < 10 && at > 0 ? value.toFixed(1) : value.toFixed(0)} ${units[at]}`
}
