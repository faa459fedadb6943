/* The clients that apps have, each on a database of its own, behind one small face for tests. */
import type { SqlClient, TransactionAdapter } from '@stepwell/sdk'
import pg from 'pg'
import postgres from 'postgres'
import { type Connection, connectionUrl } from '../../src/embedded/connection.ts'

export interface AppClient {
  client: SqlClient
  /** Runs a statement in the transaction that a body was given. */
  exec(tx: unknown, text: string): Promise<unknown>
  end(): Promise<void>
}

type Open = (connection: Connection) => Promise<AppClient>

const openPostgresJs: Open = async connection => {
  // An app's own transforms and types must not change what we read back.
  const sql = postgres({ ...connection, max: 4, onnotice: () => {}, transform: postgres.toPascal as never })
  return {
    client: sql,
    exec: (tx, text) => (tx as postgres.TransactionSql).unsafe(text),
    end: () => sql.end({ timeout: 1 }),
  }
}

const openPool: Open = async connection => {
  const pool = new pg.Pool({ connectionString: connectionUrl(connection), max: 4 })
  pool.on('error', () => {})
  return { client: pool, exec: (tx, text) => (tx as pg.PoolClient).query(text), end: () => pool.end() }
}

const openClient: Open = async connection => {
  const client = new pg.Client({ connectionString: connectionUrl(connection) })
  client.on('error', () => {})
  await client.connect()
  return { client, exec: (tx, text) => (tx as pg.Client).query(text), end: () => client.end() }
}

/** As an app would write it for a client that we do not know: objects as rows, and errors in a coat of its own. */
const openAdapter: Open = async connection => {
  const pool = new pg.Pool({ connectionString: connectionUrl(connection), max: 4 })
  pool.on('error', () => {})
  const adapter: TransactionAdapter<{ run(text: string): Promise<unknown> }> = {
    async transaction(work) {
      const client = await pool.connect()
      client.on('error', () => {})
      try {
        await client.query('begin')
        const run = (text: string) => client.query(text)
        const value = await work({ run }, (text, values) => client.query(text, [...values]))
        await client.query('commit')
        client.release()
        return value
      } catch (cause) {
        client.release(true)
        throw new Error('The transaction failed.', { cause })
      }
    },
  }
  return {
    client: adapter,
    exec: (tx, text) => (tx as { run(text: string): Promise<unknown> }).run(text),
    end: () => pool.end(),
  }
}

export const CLIENTS: [string, Open][] = [
  ['postgres.js', openPostgresJs],
  ['a Pool of pg', openPool],
  ['a Client of pg', openClient],
  ['an adapter', openAdapter],
]
