/**
 * Databases for tests: one embedded Postgres per run, with one migrated template, and a clone of it per test file
 * (a clone costs some 30 ms, migrating takes longer). fsync stays on: what is tested is what runs.
 *
 *     const database = await createTestDatabase()
 *     afterAll(() => database.drop())
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { type Connection, connectionUrl } from '../src/embedded/connection.ts'
import { startEmbeddedPostgres } from '../src/embedded/postgres.ts'
import { migrate } from '../src/store/migrate.ts'

export interface TestServer {
  /** Plain data, because it travels to the processes of the test files. */
  facts: { connection: Connection; template: string }
  stop(): Promise<void>
}

export interface TestDatabase {
  connection: Connection
  /** For psql, while a test is being looked into. */
  sqlUrl: string
  /** Drops the database. Throws when connections to it are still open, which a test must not leave. */
  drop(): Promise<void>
}

const TEMPLATE = 'stepwell_template'
// Several test files, each with the pools of one or two engines.
const MAX_CONNECTIONS = '200'
// A client that has just been closed takes a moment to be gone on the server.
const CLOSING_GRACE_MS = 2_000
const POLL_MS = 20

/** Starts the server of a test run in a temporary folder, which `stop` removes. For vitest's globalSetup. */
export async function startTestServer(): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), 'stepwell-test-'))
  // Plans that do not know their parameters: what the planner may fall back to after five executions. A statement that
  // is slow or wrong with one is so in production. For the whole server: a clone does not inherit what `alter database`
  // has set on its template.
  const genericPlans = process.env.STEPWELL_TEST_GENERIC_PLANS === '1'
  const settings = {
    max_connections: MAX_CONNECTIONS,
    plan_cache_mode: genericPlans ? 'force_generic_plan' : 'auto',
  }
  const server = await startEmbeddedPostgres({ dataDir: folder, settings })
  const stop = async () => {
    await server.stop()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await makeTemplate(server.connection)
    return { facts: { connection: server.connection, template: TEMPLATE }, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** A database of its own, migrated and otherwise empty. */
export async function createTestDatabase(): Promise<TestDatabase> {
  // Here and not above: vitest itself is only there in the processes of test files, and globalSetup imports this file.
  const { inject } = await import('vitest')
  const { connection: admin, template } = inject('testServer')
  const database = `test_${randomBytes(6).toString('hex')}`
  await withAdmin(admin, sql => sql`create database ${sql(database)} template ${sql(template)}`)
  const connection = { ...admin, database }
  return { connection, sqlUrl: connectionUrl(connection), drop: () => dropDatabase(admin, database) }
}

async function makeTemplate(admin: Connection): Promise<void> {
  await withAdmin(admin, sql => sql`create database ${sql(TEMPLATE)}`)
  await migrate({ ...admin, database: TEMPLATE })
}

async function dropDatabase(admin: Connection, database: string): Promise<void> {
  const leaked = await withAdmin(admin, async sql => {
    const open = await waitForClosing(sql, database)
    // `force` ends them: the database must go, also when the test fails for them.
    await sql`drop database if exists ${sql(database)} with (force)`
    return open
  })
  if (leaked.length === 0) return
  const what = leaked.map(({ application, state, query }) => `${application} (${state}): ${query}`).join('\n')
  throw new Error(`${leaked.length} connections to ${database} were still open. Close them before drop().\n${what}`)
}

interface OpenConnection {
  application: string
  state: string
  query: string
}

async function waitForClosing(sql: postgres.Sql, database: string): Promise<OpenConnection[]> {
  const deadline = performance.now() + CLOSING_GRACE_MS
  for (;;) {
    const open = await sql<OpenConnection[]>`
      select application_name as application, coalesce(state, '') as state, left(query, 200) as query
      from pg_stat_activity
      where datname = ${database} and backend_type = 'client backend'`
    if (open.length === 0 || performance.now() > deadline) return [...open]
    await sleep(POLL_MS)
  }
}

async function withAdmin<T>(admin: Connection, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres({ ...admin, max: 1, onnotice: () => undefined })
  try {
    return await work(sql)
  } finally {
    await sql.end({ timeout: 5 })
  }
}
