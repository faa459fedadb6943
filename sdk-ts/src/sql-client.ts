/**
 * Transactions in the app's own database, through whatever client the app has. Clients are taken by their shape, so that
 * this SDK depends on none of them: postgres.js by `begin`, node-postgres by `query`, all others by an adapter of one method.
 *
 * Our statements take texts and nulls and give columns that are texts or null, whatever types, transforms and parsers a
 * client is set up with. Each uses `$1`, `$2`, … once, in this order.
 */
import { NonRetriableError } from './errors.ts'

/** Runs one statement of ours inside a transaction. Gives its rows as the client does: objects, or `{ rows }`. */
export type TxQuery = (
  text: string,
  values: readonly (string | null)[],
) => Promise<readonly object[] | { readonly rows: readonly object[] }>

/**
 * For every client that is neither postgres.js nor node-postgres. `transaction` opens a transaction, awaits `work` inside it,
 * commits when it resolves, and rolls back and rejects when it rejects. `query` of `work` runs one statement in that
 * transaction: with `$1`, `$2`, … in it, each once and in this order, and the values for them.
 * @example
 * const adapter: TransactionAdapter<Transaction> = {
 *   transaction: work => pglite.transaction(tx => work(tx, (text, values) => tx.query(text, [...values]))),
 * }
 */
export interface TransactionAdapter<Tx> {
  transaction<T>(work: (tx: Tx, query: TxQuery) => Promise<T>): Promise<T>
}

/** What is used of postgres.js: `postgres(url)`. */
export interface PostgresJsClient {
  begin(...args: never[]): Promise<unknown>
  unsafe(...args: never[]): unknown
}

/** What is used of node-postgres: `new Pool(…)`, or a connected `new Client(…)` that nothing else uses meanwhile. */
export interface NodePostgresClient {
  connect(...args: never[]): unknown
  query(...args: never[]): unknown
}

/** A client of the app's database. */
export type SqlClient = PostgresJsClient | NodePostgresClient | TransactionAdapter<unknown>

/** What a body gets of its client: the tagged template of the transaction, the connection that it is on, or what the adapter passes. */
export type TxOf<Client> =
  Client extends TransactionAdapter<infer Tx>
    ? Tx
    : Client extends { begin(options: string, work: (tx: infer Tx) => unknown): unknown }
      ? Tx
      : // Two overloads, because those of node-postgres are two, and inference pairs them up from the end.
        Client extends { totalCount: number; connect: { (): Promise<infer Connection>; (callback: never): unknown } }
        ? Connection
        : Client

/** Runs a statement of ours; rows are their columns in the order of the statement. */
export type Query = (text: string, values?: readonly (string | null)[]) => Promise<(string | null)[][]>

/** Whether a value has the shape of a client. */
export function isSqlClient(client: unknown): client is SqlClient {
  return has(client, 'transaction') || isPostgresJs(client) || isNodePostgres(client)
}

/** What to pass where a client is missing. */
export const CLIENT_WANTED =
  'Pass a client of your database: postgres(url) of postgres.js, a Pool or Client of pg, or an adapter { transaction }.'

/**
 * Runs `work` in one transaction of the client.
 * @throws what `work` throws, and what the database says
 */
export function transact<T>(client: SqlClient, work: (tx: unknown, query: Query) => Promise<T>): Promise<T> {
  if (isPostgresJs(client)) return onPostgresJs(client as unknown as PostgresJs, work)
  if (has(client, 'transaction')) return onAdapter(client as unknown as TransactionAdapter<unknown>, work)
  if (isPool(client)) return onPool(client, work)
  return inTurn(client, () => onConnection(client as unknown as Connection, work))
}

/** The SQLSTATE of an error, also of one that a client has wrapped. */
export function sqlStateOf(error: unknown): string | null {
  for (const cause of causesOf(error)) {
    if ('code' in cause && typeof cause.code === 'string' && /^[0-9A-Z]{5}$/.test(cause.code)) return cause.code
  }
  return null
}

const CAUSES_MAX = 8

/** An error and its causes. */
function causesOf(error: unknown): object[] {
  const causes: object[] = []
  let at = error
  while (typeof at === 'object' && at !== null && causes.length < CAUSES_MAX) {
    causes.push(at)
    at = 'cause' in at ? at.cause : null
  }
  return causes
}

interface PostgresJs {
  begin(work: (tx: PostgresJsTx) => Promise<void>): Promise<unknown>
}

interface PostgresJsTx {
  unsafe(text: string, values: readonly (string | null)[]): { raw(): Promise<readonly (Buffer | null)[][]> }
}

/**
 * Where the connection is lost, `begin` rejects by itself, and work that rejects as well ends the process: the driver writes
 * its rollback to a socket that is not there (3.4.9). So such work never ends.
 */
async function onPostgresJs<T>(sql: PostgresJs, work: (tx: unknown, query: Query) => Promise<T>): Promise<T> {
  let result: { value: T } | null = null
  let isOver = false
  // Its result goes past `begin`, which awaits the members of an array.
  const begun = sql.begin(async tx => {
    // Raw: neither parsers nor transforms of the app's touch what is read back.
    const query: Query = async (text, values = []) => {
      if (isOver) return never()
      const rows = await tx.unsafe(text, values).raw()
      return Array.from(rows, row => row.map(column => (column === null ? null : column.toString())))
    }
    try {
      result = { value: await work(tx, query) }
    } catch (error) {
      if (isOver || isConnectionLost(error)) return never()
      throw error
    }
    if (isOver) return never()
  })
  try {
    await begun
  } finally {
    isOver = true
  }
  return resultOf(result)
}

function never(): Promise<never> {
  return new Promise(() => {})
}

/** Postgres has ended the session (FATAL), or the driver has seen it end. */
function isConnectionLost(error: unknown): boolean {
  return causesOf(error).some(
    cause =>
      ('severity' in cause && cause.severity === 'FATAL') ||
      ('code' in cause && typeof cause.code === 'string' && cause.code.startsWith('CONNECTION_')),
  )
}

async function onAdapter<T>(
  adapter: TransactionAdapter<unknown>,
  work: (tx: unknown, query: Query) => Promise<T>,
): Promise<T> {
  let result: { value: T } | null = null
  await adapter.transaction(async (tx, txQuery) => {
    if (typeof txQuery !== 'function') {
      throw new NonRetriableError(
        'The client has a `transaction` that gives no function to query with, so it is no adapter. ' +
          'Wrap it: { transaction: work => db.transaction(tx => work(tx, (text, values) => …)) }.',
      )
    }
    const query: Query = async (text, values = []) => {
      const answer = await txQuery(text, values)
      const rows = 'rows' in answer ? answer.rows : answer
      return Array.from(rows, row => Object.values(row))
    }
    result = { value: await work(tx, query) }
  })
  return resultOf(result)
}

/** A `begin` that resolves has awaited the work; a client that has not is broken, and is told so. */
function resultOf<T>(result: { value: T } | null): T {
  if (result === null) throw new Error('The database client says that it has committed, and has not run the work.')
  return result.value
}

interface Connection {
  query(config: {
    text: string
    values?: readonly (string | null)[]
    rowMode: 'array'
    types: { getTypeParser(): (value: string) => string }
  }): Promise<{ command: string; rows: (string | null)[][] }>
  on?(event: 'error', listener: () => void): unknown
  off?(event: 'error', listener: () => void): unknown
}

interface Pool {
  totalCount: number
  connect(): Promise<Connection & { release(isBroken: boolean): void }>
}

async function onPool<T>(pool: Pool, work: (tx: unknown, query: Query) => Promise<T>): Promise<T> {
  const connection = await pool.connect()
  let isBroken = false
  try {
    return await onConnection(connection, work, () => {
      isBroken = true
    })
  } finally {
    connection.release(isBroken)
  }
}

/** @param onBroken the connection does not even roll back */
async function onConnection<T>(
  connection: Connection,
  work: (tx: unknown, query: Query) => Promise<T>,
  onBroken: () => void = () => {},
): Promise<T> {
  const run = (text: string, values: readonly (string | null)[] = []) =>
    connection.query({ text, values, rowMode: 'array', types: AS_TEXT })
  // A connection that ends emits `error` besides rejecting queries, and without a listener that ends the process.
  connection.on?.('error', ignore)
  try {
    await run('begin')
    const value = await work(connection, async (text, values) => (await run(text, values)).rows)
    const { command } = await run('commit')
    // So Postgres answers where a statement failed and nobody has looked.
    if (command !== 'COMMIT') throw new Error('The transaction was rolled back: one of its statements had failed.')
    return value
  } catch (error) {
    await run('rollback').catch(onBroken)
    throw error
  } finally {
    connection.off?.('error', ignore)
  }
}

const AS_TEXT = { getTypeParser: () => (value: string) => value }

function ignore(): void {}

/** Ends of the last transactions on single connections. Module state: they belong to clients that are not ours. */
const lastOn = new WeakMap<object, Promise<unknown>>()

/** One connection has one transaction at a time. */
function inTurn<T>(connection: object, work: () => Promise<T>): Promise<T> {
  const mine = (lastOn.get(connection) ?? Promise.resolve()).then(work)
  lastOn.set(
    connection,
    mine.catch(() => {}),
  )
  return mine
}

function isPostgresJs(client: unknown): boolean {
  return has(client, 'begin') && has(client, 'unsafe')
}

function isNodePostgres(client: unknown): boolean {
  return has(client, 'query') && has(client, 'connect')
}

function isPool(client: unknown): client is Pool {
  return typeof client === 'object' && client !== null && 'totalCount' in client
}

function has(client: unknown, method: string): boolean {
  const isObject = (typeof client === 'object' && client !== null) || typeof client === 'function'
  return isObject && typeof (client as Record<string, unknown>)[method] === 'function'
}
