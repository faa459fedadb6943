/*
 * What single parts cost: decisions, statements, signatures, and one report's way. Prints, and compares with the figures
 * of the last time on this machine, so that a regression is seen by whoever causes it. Nothing here fails on a figure.
 */
import { parseArgs } from 'node:util'
import { type Connection, open, type Sql } from 'stepwell/src/store/db.ts'
import { migrate } from 'stepwell/src/store/migrate.ts'
import { startPostgres } from '../processes/postgres.ts'
import { coreCases } from './core-cases.ts'
import { edgeCases } from './edge-cases.ts'
import { type Case, type Measured, measure } from './measure.ts'
import { createMeter } from './meter.ts'
import { printMicro } from './print-micro.ts'
import { openReportRoute } from './report-route.ts'
import { readSaved, save } from './saved-results.ts'
import { makePlace, storeCases } from './store-cases.ts'

const GROUPS = ['core', 'store', 'edge'] as const
type Group = (typeof GROUPS)[number]

const USAGE = `bench micro [--only core|store|edge] [--seconds 1.5] [--keep]
  --seconds  how long each case is measured
  --keep     do not save these figures as the ones to compare with`

/** The command `bench micro`. */
export async function runMicro(args: string[]): Promise<void> {
  const options = { only: { type: 'string' }, seconds: { type: 'string' }, keep: { type: 'boolean' } } as const
  const { values } = parseArgs({ args, options })
  const groups = GROUPS.filter(group => values.only === undefined || group === values.only)
  const seconds = Number(values.seconds ?? 1.5)
  if (groups.length === 0 || !(seconds > 0)) throw new Error(`Not understood. Use: ${USAGE}`)

  const rows: Measured[] = []
  for (const group of groups) rows.push(...(await measureGroup(group, seconds)))
  printMicro(rows, readSaved())
  if (values.keep !== true) save(rows)
}

async function measureGroup(group: Group, seconds: number): Promise<Measured[]> {
  switch (group) {
    case 'core':
      return measureAll(coreCases(), seconds)
    case 'store':
      return withDatabase(async (connection, aside) => {
        const sql = open(connection, 1)
        const place = await makePlace(sql, await createMeter(sql, aside))
        const rows = await measureAll(storeCases(place), seconds, () => settleDown(aside))
        await sql.end()
        return rows
      })
    case 'edge':
      return withDatabase(async connection => {
        const route = await openReportRoute(connection)
        const rows = await measureAll(edgeCases(route), seconds)
        await route.stop()
        return rows
      })
  }
}

async function measureAll(cases: Case[], seconds: number, before?: () => Promise<void>): Promise<Measured[]> {
  const rows: Measured[] = []
  for (const given of cases) {
    await before?.()
    rows.push(await measure(given, seconds))
    process.stderr.write('.')
  }
  return rows
}

/** Statistics that fit, and no rows left over from the case before: as upkeep and autovacuum leave a database. */
async function settleDown(sql: Sql): Promise<void> {
  await sql`vacuum analyze`
}

async function withDatabase<T>(work: (connection: Connection, aside: Sql) => Promise<T>): Promise<T> {
  const postgres = await startPostgres()
  const aside = open(postgres.connection, 1)
  try {
    await migrate(postgres.connection)
    return await work(postgres.connection, aside)
  } finally {
    await aside.end()
    await postgres.stop()
  }
}
