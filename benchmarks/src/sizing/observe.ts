/*
 * Puts a load on a real system and reads what it has used: processes, WAL, tables.
 */
import { readFileSync } from 'node:fs'
import { open, type Sql } from 'stepwell/src/store/db.ts'
import type { NodeChild } from '../processes/child.ts'
import { cpuSecondsOf } from '../processes/usage.ts'
import { type Stepwell, startStepwell } from '../stepwell/start-stepwell.ts'
import type { Question } from './app.ts'
import { DISK_TABLES, type DiskTable } from './coefficients.ts'
import { diskOf, type Needs, type Shape } from './predict.ts'

/** What a load took, each second of it. The runs per second are those that were done, not those that were asked for. */
export interface Observed {
  shape: Shape
  needs: Needs
  /** The machine did all that was asked for. */
  keptUp: boolean
}

/** Below this share of what was asked for it did not. */
const KEPT_UP = 0.97

export interface Bench {
  observe(shape: Shape, seconds: number): Promise<Observed>
  stop(): Promise<void>
}

/** A process that has just started runs code that nobody has compiled yet, and costs twice as much. */
const WARM_UP: Shape = { runsPerSecond: 300, steps: 5, payloadBytes: 1_024 }
const WARM_UP_SECONDS = 8
/** Before each load, the beginning of it. */
const RAMP_SECONDS = 2
/** The heartbeat, the timers and autovacuum go on after a load, and statistics come late. */
const SETTLE_MS = 1_000

/** Starts an engine, its Postgres and an app. */
export async function startBench(): Promise<Bench> {
  const stepwell = await startStepwell()
  const app = await stepwell.startApp('benchmarks/src/sizing/app.ts')
  const sql = open(stepwell.connection, 1)
  await load(app, WARM_UP, WARM_UP_SECONDS)
  return {
    async observe(shape, seconds) {
      await load(app, shape, RAMP_SECONDS)
      await new Promise(resolve => setTimeout(resolve, SETTLE_MS))
      const [before, startedAt] = [await readUsage(stepwell, app, sql), performance.now()]
      const runs = await load(app, shape, seconds)
      const took = (performance.now() - startedAt) / 1_000
      const after = await readUsage(stepwell, app, sql)
      const runsPerSecond = runs / took
      const keptUp = runsPerSecond >= shape.runsPerSecond * KEPT_UP
      return { shape: { ...shape, runsPerSecond }, needs: perSecond(before, after, took), keptUp }
    },
    async stop() {
      await sql.end()
      await stepwell.stop()
    },
  }
}

/** Resolves with the number of runs. */
function load(app: NodeChild, shape: Shape, seconds: number): Promise<number> {
  return app.ask<number>({ do: 'load', ...shape, seconds } satisfies Question)
}

async function readUsage(stepwell: Stepwell, app: NodeChild, sql: Sql): Promise<Needs> {
  const [row] = await sql<{ wal: number; transactions: number; flushes: number }[]>`
    select (pg_current_wal_insert_lsn() - '0/0')::float8 as wal,
      pg_snapshot_xmax(pg_current_snapshot())::text::float8 as transactions,
      (select sum(fsyncs)::float8 from pg_stat_io where object = 'wal') as flushes`
  const sizes = await sql<{ name: DiskTable; bytes: number }[]>`
    select name, (select sum(pg_total_relation_size(relid))::float8 from pg_partition_tree(format('stepwell.%I', name)::regclass)) as bytes
    from unnest(string_to_array(${TABLES}, ',')) name`
  return {
    transactions: row?.transactions ?? Number.NaN,
    engineCores: cpuSecondsOf(stepwell.server),
    appCores: cpuSecondsOf({ roots: [app.pid] }),
    postgresCores: cpuSecondsOf(stepwell.database),
    walBytes: row?.wal ?? Number.NaN,
    walFlushes: row?.flushes ?? Number.NaN,
    networkBytes: bytesMovedBy(stepwell.server.roots[0] ?? 0),
    diskBytes: diskOf(table => sizes.find(({ name }) => name === table)?.bytes ?? Number.NaN),
  }
}

const TABLES = DISK_TABLES.join(',')

/** What a process has read and written; an engine reads and writes sockets, once it is up. */
function bytesMovedBy(pid: number): number {
  const text = readFileSync(`/proc/${pid}/io`, 'utf8')
  const read = (name: string) => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1])
  return read('rchar') + read('wchar')
}

function perSecond(before: Needs, after: Needs, seconds: number): Needs {
  const rate = (key: Exclude<keyof Needs, 'diskBytes'>) => (after[key] - before[key]) / seconds
  return {
    transactions: rate('transactions'),
    engineCores: rate('engineCores'),
    appCores: rate('appCores'),
    postgresCores: rate('postgresCores'),
    walBytes: rate('walBytes'),
    walFlushes: rate('walFlushes'),
    networkBytes: rate('networkBytes'),
    diskBytes: diskOf(table => (after.diskBytes[table] - before.diskBytes[table]) / seconds),
  }
}
