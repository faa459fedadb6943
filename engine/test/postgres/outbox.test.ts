/* The outbox: events that start with the app's own transaction. */
import { createFunction, StepwellError } from '@stepwell/sdk'
import { drainOutbox, ensureStepwellTables, type OutboxDrain } from '@stepwell/sdk/postgres'
import pg from 'pg'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { connectionUrl } from '../../src/embedded/connection.ts'
import { createTestDatabase, type TestDatabase } from '../database.ts'
import { startSystem, type TestSystem } from '../support/system.ts'
import { waitUntil } from '../support/wait-until.ts'

let system: TestSystem
let database: TestDatabase
let sql: postgres.Sql
let pool: pg.Pool
const seen: { id: string; data: { n?: number }; ts: string }[] = []
const drains: OutboxDrain[] = []
beforeAll(async () => {
  system = await startSystem()
  database = await createTestDatabase()
  sql = postgres({ ...database.connection, max: 6, onnotice: () => {} })
  pool = new pg.Pool({ connectionString: connectionUrl(database.connection), max: 3 })
  await ensureStepwellTables(sql)
  const note = createFunction({
    id: 'note',
    trigger: { event: 'noted' },
    handler: ({ event, step }) =>
      step.run('note', () => {
        seen.push(event)
      }),
  })
  await system.serveApp([note])
})
afterAll(async () => {
  expect(await system?.brokenInvariants()).toEqual([])
  await sql?.end({ timeout: 1 })
  await pool?.end()
  await system?.stop()
  await database?.drop()
})
beforeEach(() => {
  seen.length = 0
})
afterEach(async () => {
  await Promise.all(drains.splice(0).map(drain => drain.stop()))
  await sql`delete from stepwell.outbox`
  vi.restoreAllMocks()
})

function drainWith(options: Partial<Parameters<typeof drainOutbox>[0]> = {}): OutboxDrain {
  const drain = drainOutbox({ client: system.client, sql, pollInterval: 50, ...options })
  drains.push(drain)
  return drain
}

/** Counts what is sent, on its way to the engine. */
function countingClient() {
  const batches: { id: string }[][] = []
  return {
    batches,
    async send(events: { id: string }[]) {
      batches.push(events)
      return system.client.send(events as never)
    },
  }
}

const isEmpty = async () => (await sql`select 1 from stepwell.outbox where error is null limit 1`).length === 0
const ns = () => seen.map(event => event.data.n).sort((a, b) => Number(a) - Number(b))

test('an event is sent when the transaction commits, and not when it rolls back', async () => {
  drainWith()
  await sql
    .begin(async tx => {
      await tx`select stepwell.send('noted', '{"n":1}')`
      throw new Error('no')
    })
    .catch(() => {})
  await sql.begin(tx => tx`select stepwell.send('noted', '{"n":2}')`)

  await waitUntil('it is there', () => seen.length > 0)

  await waitUntil('the outbox is empty', isEmpty)
  await system.client.sendAndWait({ name: 'noted', data: { n: 3 } })
  expect(ns()).toEqual([2, 3])
})

test('an event keeps the id, the time and the data that it was given, whichever driver gives them', async () => {
  const ts = '2026-01-31T12:00:00.123Z'
  const ids = [
    ...(await sql`select stepwell.send('noted', ${sql.json({ n: 1 })}, 'id-1', ${ts}) as id`),
    ...(await pool.query('select stepwell.send($1, $2, $3, $4) as id', ['noted', { n: 2 }, 'id-2', ts])).rows,
    ...(await sql`select stepwell.send(name => 'noted', data => ${JSON.stringify({ n: 3, text: 'a\u0000b' })}) as id`),
    ...(await sql`select stepwell.send('noted') as id`),
  ].map(row => row.id)
  drainWith()

  await waitUntil('they are there', () => seen.length === 4)

  const byId = new Map(seen.map(event => [event.id, event]))
  expect(ids.slice(0, 2)).toEqual(['id-1', 'id-2'])
  expect(ids.map(id => byId.get(id)?.data)).toEqual([{ n: 1 }, { n: 2 }, { n: 3, text: 'a\u0000b' }, {}])
  expect(byId.get('id-1')?.ts).toBe(ts)
  expect(Math.abs(Date.parse(byId.get(ids[3])?.ts ?? '') - Date.now())).toBeLessThan(60_000)
})

test.each([
  ['data that is no JSON', `select stepwell.send('noted', '{"n":')`],
  ['no name', `select stepwell.send('')`],
  ['an id that is too long', `select stepwell.send('noted', '{}', repeat('x', 257))`],
])('%s fails the transaction of the app', async (_what, statement) => {
  await expect(sql.unsafe(statement)).rejects.toThrow()
})

test('a thousand rows are drained in batches, in order, each once', async () => {
  const client = countingClient()
  await sql`select stepwell.send('noted', jsonb_build_object('n', n), 'row-' || n) from generate_series(1, 1000) n`

  drainWith({ client, batch: 100, sql: pool })
  await waitUntil('all are there', () => seen.length === 1000)

  await waitUntil('the outbox is empty', isEmpty)
  expect(client.batches.map(batch => batch.length)).toEqual(Array.from({ length: 10 }, () => 100))
  expect(client.batches.flat().map(event => event.id)).toEqual(Array.from({ length: 1000 }, (_, at) => `row-${at + 1}`))
  expect(new Set(ns()).size).toBe(1000)
})

test('two drains at once share the work and send nothing twice', async () => {
  const [one, two] = [countingClient(), countingClient()]
  await sql`select stepwell.send('noted', jsonb_build_object('n', n)) from generate_series(1, 1000) n`

  drainWith({ client: one, batch: 20 })
  drainWith({ client: two, batch: 20, sql: pool })
  await waitUntil('all are there', () => seen.length >= 1000)

  await waitUntil('the outbox is empty', isEmpty)
  const sent = [...one.batches.flat(), ...two.batches.flat()].map(event => event.id)
  expect(sent).toHaveLength(1000)
  expect(new Set(sent).size).toBe(1000)
  expect(one.batches.length).toBeGreaterThan(0)
  expect(two.batches.length).toBeGreaterThan(0)
})

test('a drain whose send hangs keeps no other from what it has not taken', async () => {
  let release = () => {}
  const isHanging = new Promise<void>(taken => {
    const send = () =>
      new Promise<void>(resolve => {
        release = resolve
        taken()
      })
    void sql`select stepwell.send('noted', jsonb_build_object('n', n)) from generate_series(1, 4) n`.then(() =>
      drainWith({ client: { send }, batch: 2 }),
    )
  })
  await isHanging

  drainWith()
  await waitUntil('the others are there', () => seen.length === 2)

  expect(ns()).toEqual([3, 4])
  release()
})

test('what commits late is sent although later rows were sent before', async () => {
  let commit = () => {}
  const isOpen = new Promise<void>(resolve => {
    commit = resolve
  })
  let isWritten = false
  const late = sql.begin(async tx => {
    await tx`select stepwell.send('noted', '{"n":1}')`
    isWritten = true
    await isOpen
  })
  await waitUntil('the first is written', () => isWritten)
  await sql`select stepwell.send('noted', '{"n":2}')`
  drainWith()
  await waitUntil('the second is there', () => seen.length === 1)

  commit()
  await late
  await waitUntil('the first is there', () => seen.length === 2)

  expect(seen.map(event => event.data.n)).toEqual([2, 1])
})

test('an event that the engine refuses is marked and logged, and the others go on', async () => {
  const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
  await sql`
    select stepwell.send(case n when 3 then E'two\nlines' else 'noted' end, jsonb_build_object('n', n), 'r-' || n)
    from generate_series(1, 7) n`

  drainWith()
  await waitUntil('the others are there', () => seen.length === 6)

  await waitUntil('nothing is left to send', isEmpty)
  const [refused, ...others] = await sql`select id, error, refused_at from stepwell.outbox`
  expect(others).toEqual([])
  expect(refused).toMatchObject({
    id: 'r-3',
    error: expect.stringContaining('body_invalid'),
    refused_at: expect.any(Date),
  })
  expect(logged).toHaveBeenCalledTimes(1)
  expect(logged.mock.calls[0]?.[1]).toMatchObject({ id: 'r-3', code: 'body_invalid' })
})

test('an event that only the engine can refuse is marked as well', async () => {
  const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
  const deep = `${'['.repeat(1_500)}${']'.repeat(1_500)}`
  await sql`select stepwell.send('noted', ${deep})`
  await sql`select stepwell.send('noted', '{"n":1}')`

  drainWith()
  await waitUntil('the other is there', () => seen.length === 1)

  await waitUntil('nothing is left to send', isEmpty)
  expect(await sql`select error from stepwell.outbox`).toHaveLength(1)
  expect(logged).toHaveBeenCalledTimes(1)
})

test('two rows with one id are one event', async () => {
  await sql`select stepwell.send('noted', '{"n":1}', 'same-id') from generate_series(1, 2)`
  drainWith()
  await waitUntil('the outbox is empty', isEmpty)

  await system.client.sendAndWait({ name: 'noted', data: { n: 2 } })

  expect(ns()).toEqual([1, 2])
})

test.each([
  ['the engine is away', () => new StepwellError('unavailable', 'away')],
  ['the key is wrong', () => new StepwellError('signature_invalid', 'wrong key', { status: 401 })],
])('while %s, nothing is lost or marked, and it is said once', async (_what, makeError) => {
  const warned = vi.spyOn(console, 'warn').mockImplementation(() => {})
  await sql`select stepwell.send('noted', '{"n":1}')`
  let tries = 0
  const send = async (events: never) => {
    tries += 1
    if (tries <= 2) throw makeError()
    return system.client.send(events)
  }

  const drain = drainWith({ client: { send } })
  await waitUntil('it is there', () => {
    drain.nudge()
    return seen.length === 1
  })

  expect(tries).toBe(3)
  expect(warned).toHaveBeenCalledTimes(1)
})

test('a nudge sends what has just been committed at once', async () => {
  let looks = 0
  const begin = (work: never) => {
    looks += 1
    return sql.begin(work)
  }
  const drain = drainWith({ pollInterval: '1h', sql: { begin, unsafe: sql.unsafe } })
  // Each pause is twice as long as the one before: this one would take 2.5 seconds.
  await waitUntil('it rests', () => looks === 8)
  await sql`select stepwell.send('noted', '{"n":1}')`

  drain.nudge()
  const nudgedAtMs = performance.now()
  await waitUntil('it is there', () => seen.length === 1)

  expect(performance.now() - nudgedAtMs).toBeLessThan(1_500)
})

test('stopping waits for the batch under way', async () => {
  let release = () => {}
  let isSending = false
  const client = {
    async send(events: never) {
      isSending = true
      await new Promise<void>(resolve => {
        release = resolve
      })
      return system.client.send(events)
    },
  }
  await sql`select stepwell.send('noted', '{"n":1}')`
  const drain = drainWith({ client })
  await waitUntil('it sends', () => isSending)

  const stopping = drain.stop()
  release()
  await stopping

  expect(await isEmpty()).toBe(true)
})

test('without the table, the drain waits for it and says how to create it', async () => {
  const warned = vi.spyOn(console, 'warn').mockImplementation(() => {})

  drainWith({ schema: 'not_there' })
  await waitUntil('it says so', () => warned.mock.calls.length === 1)

  expect(warned.mock.calls[0]?.[1]).toMatchObject({ code: 'tx_tables_missing' })
})
