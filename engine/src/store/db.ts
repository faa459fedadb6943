/*
 * The only place that opens connections and transactions. Statements are postgres.js templates; hot ones call SQL
 * functions over arrays (migrations/), one round trip and one commit each.
 *
 * postgres.js pipelines queries once all connections of a pool are busy, so one statement that waits for a row lock
 * holds up those behind it: claims, writes and reads have pools of their own.
 */
import postgres from 'postgres'

export type Sql = postgres.Sql
export type PendingQuery<T extends readonly (object | undefined)[]> = postgres.PendingQuery<T>
export type Row = postgres.Row

/** What postgres.js takes: a URL, or host, port, user, password and database. */
export type Connection = string | { host: string; port: number; user: string; password: string; database: string }

export interface Pools {
  /** Claims and heartbeats: short, never behind a write. */
  claim: Sql
  /** Ingest and advance. */
  write: Sql
  /** The API's reads. */
  read: Sql
  /** Timers, the reaper, partitions, statistics: two, so that a slow one does not make timers late. */
  upkeep: Sql
}

const POOL_SIZES = { claim: 1, write: 3, read: 3, upkeep: 2 } as const
const IDLE_IN_TRANSACTION_MS = 60_000
const CONNECT_SECONDS = 10

/** Opens the pools of one engine. Connections are made when first needed. */
export function openPools(connection: Connection): Pools {
  return {
    claim: open(connection, POOL_SIZES.claim),
    write: open(connection, POOL_SIZES.write),
    read: open(connection, POOL_SIZES.read),
    upkeep: open(connection, POOL_SIZES.upkeep),
  }
}

/** Closes them; queries that still run get the seconds to finish. */
export async function closePools(pools: Pools, seconds = 5): Promise<void> {
  await Promise.all(Object.values(pools).map(pool => pool.end({ timeout: seconds })))
}

/** One client of its own; `max` connections. */
export function open(connection: Connection, max: number, onclose: () => void = () => {}): Sql {
  const options: postgres.Options<Record<string, never>> = {
    max,
    onclose,
    // Arrays are passed as literals (arrays.ts) and results hold none, so the types of arrays need no look-up.
    fetch_types: false,
    connect_timeout: CONNECT_SECONDS,
    // Loops ask again at their own pace; the driver should not make them wait up to a minute.
    backoff: attempt => Math.min(0.05 * 2 ** attempt, 1),
    onnotice: () => {},
    connection: {
      application_name: 'stepwell',
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    },
    // Only columns: postgres.camel would rename the keys inside customers' JSON.
    transform: { column: { from: postgres.toCamel } },
  }
  return typeof connection === 'string' ? postgres(connection, options) : postgres({ ...options, ...connection })
}

/**
 * Runs `work` in one transaction on a connection of its own: for migrations and tests. Everything else is one statement.
 * Neither `sql.begin` nor `sql.reserve` of postgres.js holds on to its connection: the first can lose it when BEGIN fills
 * the pipeline (issue 1210), the second never resolves when no connection is open yet, and a ROLLBACK after a lost
 * connection ends the process.
 */
export async function transaction<T>(connection: Connection, work: (tx: Sql) => Promise<T>): Promise<T> {
  // Ended when its connection closes: the driver would make a new one, and the rest would run outside the transaction.
  const tx = open(connection, 1, () => void tx.end({ timeout: 0 }))
  try {
    await tx`begin`
    const result = await work(tx)
    await tx`commit`
    return result
  } finally {
    // What is not committed is undone by the server when the connection goes.
    await tx.end({ timeout: 5 })
  }
}

/** SQLSTATEs by name, for the ones that are handled. */
const STATES = {
  deadlock: ['40P01'],
  uniqueViolation: ['23505'],
  unavailable: ['57P01', '57P02', '57P03', '53300', '08000', '08003', '08006'],
} as const

/** Whether an error is of a kind that we handle by name. */
export function isSqlState(error: unknown, kind: keyof typeof STATES): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' && (STATES[kind] as readonly string[]).includes(code)
}

const CONNECTION_ERRORS = new Set([
  'CONNECTION_CLOSED',
  'CONNECTION_ENDED',
  'CONNECTION_DESTROYED',
  'CONNECT_TIMEOUT',
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
  'EACCES',
  'ENOTFOUND',
])

/** Whether the database was not there: nothing is known about what the statement did, and asking again is right. */
export function isDatabaseAway(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return (typeof code === 'string' && CONNECTION_ERRORS.has(code)) || isSqlState(error, 'unavailable')
}
