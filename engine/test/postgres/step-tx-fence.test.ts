/* step.tx: attempts that meet, commits that are not heard of, and what is refused. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createFunction, type DurableFunction, serve, type TransactionAdapter } from '@stepwell/sdk'
import { ensureStepwellTables, forgetStepResults, stepwellTablesSql } from '@stepwell/sdk/postgres'
import pg from 'pg'
import postgres from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, expectTypeOf, test } from 'vitest'
import { connectionUrl } from '../../src/embedded/connection.ts'
import { createTestDatabase, type TestDatabase } from '../database.ts'
import { startSystem, type TestSystem } from '../support/system.ts'
import { waitUntil } from '../support/wait-until.ts'
import { CLIENTS } from './clients.ts'

const FAST = { limit: 1, minDelay: 1, maxDelay: 1 }

let system: TestSystem
let database: TestDatabase
let sql: postgres.Sql
let pool: pg.Pool
beforeAll(async () => {
  system = await startSystem()
  database = await createTestDatabase()
  sql = postgres({ ...database.connection, max: 4, onnotice: () => {} })
  pool = new pg.Pool({ connectionString: connectionUrl(database.connection), max: 2 })
  await sql`create table effects (label text not null)`
  await ensureStepwellTables(sql)
})
afterAll(async () => {
  expect(await system?.brokenInvariants()).toEqual([])
  await sql?.end({ timeout: 1 })
  await pool?.end()
  await system?.stop()
  await database?.drop()
})
beforeEach(async () => {
  await sql`delete from effects`
  await sql`delete from stepwell.step_results`
})

async function effects(): Promise<string[]> {
  return (await sql<{ label: string }[]>`select label from effects order by label`).map(row => row.label)
}

async function runToEnd(functions: DurableFunction[], name: string) {
  const served = await system.serveApp(functions)
  const run = await system.runToEnd({ name })
  await served.close()
  return run
}

/** An app whose connections can be cut, as by a proxy that restarts. */
async function serveCuttable(definition: DurableFunction): Promise<Server> {
  const server = createServer(serve([definition], { signingKey: system.signingKey }))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await system.client.sync([definition], { url: `http://127.0.0.1:${port}` })
  return server
}

test.each(CLIENTS.slice(0, 2))(
  'of two attempts at once, with %s, the second waits for the first and gives its result',
  async (_name, openClient) => {
    const app = await openClient(database.connection)
    let commit: () => void = () => {}
    let calls = 0
    const slow = createFunction({
      id: 'slow',
      trigger: { event: 'slow' },
      handler: ({ step }) =>
        step.tx('charge', app.client, async (tx: unknown) => {
          calls += 1
          const call = calls
          await app.exec(tx, `insert into effects values ('call ${call}')`)
          await new Promise<void>(resolve => {
            commit = resolve
          })
          return call
        }),
    })
    const server = await serveCuttable(slow)
    const [sent] = await system.client.send({ name: 'slow' })
    await waitUntil('the first attempt runs', () => calls === 1)

    server.closeAllConnections()
    await waitUntil('the second attempt waits for it', async () => {
      const waiting = await sql`
        select 1 from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%step_results%'`
      return waiting.length === 1
    })
    commit()
    const run = await system.waitForState(sent?.runs[0] ?? '', 'completed', 'failed')

    server.close()
    server.closeAllConnections()
    await app.end()
    expect(run).toMatchObject({ state: 'completed', output: 1 })
    expect(calls).toBe(1)
    expect(await effects()).toEqual(['call 1'])
  },
)

test('of two attempts at once, the second runs when the first rolls back', async () => {
  let fail: (error: Error) => void = () => {}
  let calls = 0
  const slow = createFunction({
    id: 'slow-failing',
    trigger: { event: 'slow-failing' },
    handler: ({ step }) =>
      step.tx('charge', sql, async tx => {
        calls += 1
        const call = calls
        await tx`insert into effects values (${`call ${call}`})`
        if (call === 1)
          await new Promise<void>((_, reject) => {
            fail = reject
          })
        return call
      }),
  })
  const server = await serveCuttable(slow)
  const [sent] = await system.client.send({ name: 'slow-failing' })
  await waitUntil('the first attempt runs', () => calls === 1)

  server.closeAllConnections()
  await waitUntil('the second attempt waits for it', async () => {
    const waiting = await sql`
      select 1 from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' and query like '%step_results%'`
    return waiting.length === 1
  })
  fail(new Error('too late'))
  const run = await system.waitForState(sent?.runs[0] ?? '', 'completed', 'failed')

  server.close()
  server.closeAllConnections()
  expect(run).toMatchObject({ state: 'completed', output: 2 })
  expect(await effects()).toEqual(['call 2'])
})

test('a commit whose answer is lost is found by the next attempt', async () => {
  let calls = 0
  let commits = 0
  const lossy: TransactionAdapter<pg.PoolClient> = {
    async transaction(work) {
      const client = await pool.connect()
      try {
        await client.query('begin')
        const value = await work(client, (text, values) => client.query(text, [...values]))
        await client.query('commit')
        commits += 1
        if (commits === 1) throw new Error('connection lost')
        return value
      } finally {
        client.release()
      }
    },
  }
  const pay = createFunction({
    id: 'pay',
    trigger: { event: 'pay' },
    retries: FAST,
    handler: ({ step }) =>
      step.tx('charge', lossy, async tx => {
        calls += 1
        await tx.query(`insert into effects values ('paid')`)
        return { charge: calls }
      }),
  })

  const run = await runToEnd([pay], 'pay')

  expect(run).toMatchObject({ state: 'completed', output: { charge: 1 } })
  expect(calls).toBe(1)
  expect(await effects()).toEqual(['paid'])
})

test('each use of an id and each generation has a transaction of its own', async () => {
  const twice = createFunction({
    id: 'twice',
    trigger: { event: 'twice' },
    handler: async ({ step, run }) => {
      for (const use of [1, 2])
        await step.tx('note', sql, tx => tx`insert into effects values (${`${run.generation}.${use}`})`.then(() => use))
      return run.generation === 2 ? 'done' : step.continueAsNew()
    },
  })

  const run = await runToEnd([twice], 'twice')

  expect(run).toMatchObject({ state: 'completed', output: 'done' })
  expect(await effects()).toEqual(['1.1', '1.2', '2.1', '2.2'])
})

test('without the tables, the run fails with what creates them', async () => {
  const lost = createFunction({
    id: 'lost',
    trigger: { event: 'lost' },
    retries: FAST,
    handler: ({ step }) => step.tx('charge', sql, () => 1, { schema: 'elsewhere' }),
  })

  const run = await runToEnd([lost], 'lost')

  expect(run).toMatchObject({ state: 'failed', error: { code: 'tx_tables_missing' } })
  expect(run.error?.message).toContain('ensureStepwellTables(client)')
})

test('a table that is missing in the body is told as the body told it', async () => {
  const lost = createFunction({
    id: 'lost-own',
    trigger: { event: 'lost-own' },
    retries: FAST,
    handler: ({ step }) => step.tx('charge', sql, tx => tx`insert into nowhere values (1)`),
  })

  const run = await runToEnd([lost], 'lost-own')

  expect(run).toMatchObject({ state: 'failed', error: { code: '42P01' } })
})

test('a step inside of the body takes its effect back', async () => {
  const nested = createFunction({
    id: 'nested',
    trigger: { event: 'nested' },
    retries: FAST,
    handler: ({ step }) =>
      step.tx('outer', sql, async tx => {
        await tx`insert into effects values ('outer')`
        await step.run('inner', () => 1).catch(() => {})
      }),
  })

  const run = await runToEnd([nested], 'nested')

  expect(run).toMatchObject({ state: 'failed', error: { code: 'nested_step' } })
  expect(await effects()).toEqual([])
})

test('a body that rolls back by itself has not succeeded', async () => {
  const own = createFunction({
    id: 'own',
    trigger: { event: 'own' },
    retries: FAST,
    handler: ({ step }) => step.tx('charge', pool, async client => void (await client.query('rollback'))),
  })

  const run = await runToEnd([own], 'own')

  expect(run.error?.message).toContain('has ended the transaction by itself')
})

test.each([
  ['nothing', undefined],
  ['a URL', 'postgres://localhost'],
  ['a client that can only query', { query: () => {} }],
])('%s instead of a client is refused with what to pass', async (_what, client) => {
  const wrong = createFunction({
    id: 'wrong',
    trigger: { event: 'wrong' },
    handler: ({ step }) => step.tx('charge', client as unknown as pg.Pool, () => 1),
  })

  const run = await runToEnd([wrong], 'wrong')

  expect(run.error?.message).toContain('Step "charge" has no database. Pass a client')
  await expect(ensureStepwellTables(client as unknown as pg.Pool)).rejects.toThrow('Pass a client')
})

test('a client with a transaction of its own kind is told how to be wrapped', async () => {
  const drizzleLike = { transaction: (work: (tx: object) => Promise<unknown>) => work({}) }
  const wrong = createFunction({
    id: 'unwrapped',
    trigger: { event: 'unwrapped' },
    handler: ({ step }) => step.tx('charge', drizzleLike as never, () => 1),
  })

  const run = await runToEnd([wrong], 'unwrapped')

  expect(run).toMatchObject({ state: 'failed', error: { name: 'NonRetriableError' } })
  expect(run.error?.message).toContain('Wrap it')
})

test('tables may be in a schema of another name, made by many at once or by a migration', async () => {
  await Promise.all([1, 2, 3].map(() => ensureStepwellTables(pool, { schema: 'durable' })))
  await sql.unsafe(stepwellTablesSql({ schema: 'Migrated' })).simple()
  await sql.unsafe(stepwellTablesSql({ schema: 'Migrated' })).simple()
  const other = createFunction({
    id: 'other',
    trigger: { event: 'other' },
    handler: async ({ step }) => [
      await step.tx('one', sql, () => 1, { schema: 'durable' }),
      await step.tx('two', pool, () => 2, { schema: 'Migrated' }),
    ],
  })

  const run = await runToEnd([other], 'other')

  expect(run).toMatchObject({ state: 'completed', output: [1, 2] })
  expect(await sql`select step from durable.step_results`).toEqual([{ step: 'one' }])
  await expect(ensureStepwellTables(pool, { schema: 'a"; drop' })).rejects.toThrow(/schema .* is not valid/)
})

test('a role without the right to create anything may ensure what is there', async () => {
  await sql`create role plain login password 'plain'`
  await sql`grant usage on schema stepwell to plain`
  const plain = postgres({ ...database.connection, user: 'plain', password: 'plain', max: 1 })

  await ensureStepwellTables(plain)

  await plain.end({ timeout: 1 })
  await sql`revoke usage on schema stepwell from plain`
  await sql`drop role plain`
})

test('old results are forgotten, in batches, and young ones are kept', async () => {
  await sql`
    insert into stepwell.step_results (run, generation, step, recorded_at)
    select 'run_' || n, 1, 'charge', now() - interval '31 days' from generate_series(1, 2500) n`
  await sql`insert into stepwell.step_results (run, generation, step) values ('run_young', 1, 'charge')`

  expect(await forgetStepResults(pool, { olderThan: '30d' })).toBe(2500)
  expect(await forgetStepResults(sql, { olderThan: '30d' })).toBe(0)
  expect(await sql`select run from stepwell.step_results`).toEqual([{ run: 'run_young' }])
  await expect(forgetStepResults(sql, { olderThan: 30 })).rejects.toThrow('write days as "30d"')
})

test('the body knows the transaction of its client by type', () => {
  createFunction({
    id: 'typed',
    trigger: { event: 'typed' },
    handler: async ({ step }) => {
      const one = await step.tx('a', sql, tx => {
        expectTypeOf(tx).toEqualTypeOf<postgres.TransactionSql>()
        return { at: new Date() }
      })
      expectTypeOf(one).toEqualTypeOf<{ at: string }>()
      await step.tx('b', pool, client => expectTypeOf(client).toEqualTypeOf<pg.PoolClient>())
      await step.tx('c', new pg.Client(), client => expectTypeOf(client).toEqualTypeOf<pg.Client>())
      await step.tx('d', {} as TransactionAdapter<{ a: 1 }>, tx => expectTypeOf(tx).toEqualTypeOf<{ a: 1 }>())
      await step.tx('e', sql, () => 1, { undo: (n, tx) => expectTypeOf(n).toEqualTypeOf<number>() && tx`select 1` })
      // @ts-expect-error a URL is no client
      await step.tx('f', 'postgres://localhost', () => 1)
    },
  })
})
