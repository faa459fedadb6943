/*
 * A connection keeps the plans of its first statements, and those are made when the tables are empty, or when statistics
 * of an idle hour say so. Here plans are made in such a state, then the tables are filled and the statistics follow, as
 * they do in an engine within a second. What each call reads is counted in blocks: few, because it goes by a key.
 */
import { expect, test } from 'vitest'
import type { Change } from '../../src/core/change.ts'
import { open, type Sql } from '../../src/store/db.ts'
import { walkFanouts } from '../../src/store/ingest.ts'
import { findHeads, readPublished } from '../../src/store/published.ts'
import { findLeased, findOrphans, findRunnable, forgetWorkers, reap, release } from '../../src/store/queue.ts'
import { findRun, readJournal } from '../../src/store/runs.ts'
import { refreshStatistics } from '../../src/store/statistics.ts'
import { findTimed, fireTimers } from '../../src/store/timers.ts'
import {
  anAdvance,
  anEvent,
  aRecord,
  aSleep,
  aWait,
  lease,
  newUuid,
  type Store,
  send,
  useStore,
  write,
} from './fixture.ts'

const store = useStore()
const FILL = 20_000
const RUNS = 10
const BLOCKS_MAX = 1_500

/** One life of some runs, through every hot statement. `measure` wraps each call. */
async function live(
  on: Store,
  measure: (what: string, call: () => Promise<unknown>) => Promise<unknown>,
): Promise<void> {
  const event = (data: unknown) => anEvent({ name: 'go', data: data as never, shapes: [['run']] })
  await measure('ingest', () =>
    send(
      on,
      Array.from({ length: RUNS }, (_, n) =>
        anEvent({ id: `own-${newUuid()}`, name: `start-${n}`, starts: ['greet'] }),
      ),
    ),
  )
  let leased: Awaited<ReturnType<typeof lease>> = []
  await measure('findRunnable', () => findRunnable(on.sql))
  await measure('claim', async () => {
    leased = await lease(on, RUNS)
  })
  const early = leased[0]?.runId as string
  await send(on, [event({ run: early })])
  await measure('advance running', () =>
    write(
      on,
      leased.map(run => anAdvance(run, [aRecord({ key: 'a' })], 'running')),
    ),
  )
  await measure('advance waiting', () =>
    write(
      on,
      leased.map((run, n) =>
        anAdvance(
          run,
          n % 2 === 0 ? aWait('go', { event: 'go', match: { run: run.runId } }) : aSleep('nap', 0),
          'waiting',
          { nextSeq: 3 },
        ),
      ),
    ),
  )
  await measure('match', () =>
    send(
      on,
      leased.slice(1).map(run => event({ run: run.runId })),
    ),
  )
  await measure('fireTimers', () => fireTimers(on.sql, on.ws, 100))
  await measure('fireTimers, nothing due', () => fireTimers(on.sql, on.ws, 100))
  await measure('claim with inbox', async () => {
    leased = await lease(on, RUNS)
  })
  await measure('advance settled', () =>
    write(
      on,
      leased.map((run, n) => {
        const published = aRecord({ type: 'published', key: 'publish:a', data: '{}' })
        const changes: Change[] = [{ kind: 'publish', channel: 'a', data: '1' }, published]
        return anAdvance(run, changes, n % 3 === 0 ? 'trouble' : n % 3 === 1 ? 'continue' : 'done')
      }),
    ),
  )
  await measure('walkFanouts', () => walkFanouts(on.sql, on.ws, 100))
  await measure('findTimed', () => findTimed(on.sql))
  await measure('findLeased', () => findLeased(on.sql))
  await measure('reap', () => reap(on.sql, on.ws, 10_000))
  await measure('findOrphans', () => findOrphans(on.sql, on.worker))
  await measure('forgetWorkers', () => forgetWorkers(on.sql, 10_000))
  await measure('findRun', () => findRun(on.sql, on.ws, leased[0]?.runId as never))
  await measure('readPublished', () =>
    readPublished(on.sql, { ws: on.ws, runId: leased[0]?.runId as never, after: 0, channels: null, limit: 32 }),
  )
  await measure('findHeads', () =>
    findHeads(
      on.sql,
      on.ws,
      leased.map(({ runId }) => runId),
    ),
  )
  await measure('readJournal', () =>
    readJournal(on.sql, { ws: on.ws, runId: leased[0]?.runId as never, after: 0, limit: 100 }),
  )
  await measure('release', () => release(on.sql, on.worker))
  await on.sql`delete from stepwell.queue where ws = ${on.ws}`
  await on.sql`delete from stepwell.waits where ws = ${on.ws}`
  await on.sql`delete from stepwell.inbox where ws = ${on.ws}`
  await on.sql`delete from stepwell.runs where ws = ${on.ws}`
}

/** Some thousand runs each that wait, sleep, and are queued behind everything that a test does. */
async function fill(on: Store): Promise<void> {
  await on.sql`create temp table filler as select n, gen_random_uuid() as id from generate_series(1, ${FILL}::int) n`
  await on.sql`
    insert into stepwell.runs (ws, id, function, created_at, turns_settled)
    select ${on.ws}, id, 'greet', now(), 1 from filler`
  await on.sql`
    insert into stepwell.journal (ws, run_id, generation, seq, turn, at, type, key, settles, data)
    select ${on.ws}, stepwell.uuid_floor(now()), n, 1, 1, now(), 'run_started', null, false, '{}' from filler`
  await on.sql`
    insert into stepwell.published (ws, run_id, seq, channel, at, data)
    select ${on.ws}, stepwell.uuid_floor(now()), n, 'a', now(), '{}' from filler`
  await on.sql`
    insert into stepwell.queue (ws, run_id, ready_at) select ${on.ws}, id, now() + n * interval '1 second' from filler
    where n % 3 = 0`
  await on.sql`
    insert into stepwell.waits (ws, run_id, key, generation, kind, due_at, event, hash, opened_at)
    select ${on.ws}, id, 'go', 1, 'event', now() + n * interval '1 hour', 'go', gen_random_uuid(), now() from filler
    where n % 3 = 1`
  await on.sql`
    insert into stepwell.waits (ws, run_id, key, generation, kind, due_at, opened_at)
    select ${on.ws}, id, 'nap', 1, 'sleep', now() + n * interval '1 hour', now() from filler
    where n % 3 = 2`
  await on.sql`
    insert into stepwell.events (ws, received_at, id, wire_id, name, ts, data)
    select ${on.ws}, now(), id, id::text, 'go', '', '{}' from filler`
  await on.sql`
    insert into stepwell.event_keys (ws, hash, received_at, event_id)
    select ${on.ws}, gen_random_uuid(), now(), id from filler`
  await on.sql`
    insert into stepwell.event_ids (ws, own_id, run_ids, at) select ${on.ws}, id::text, '{}', now() from filler`
  await on.sql`
    insert into stepwell.runs_done (ws, id, function, generation, state, attempts, created_at, finished_at)
    select ${on.ws}, gen_random_uuid(), 'greet', 1, 'completed', 1, now(), now() from filler`
  await on.sql`drop table filler`
}

/** Its reads would be counted as ours. */
async function stopAutovacuum(sql: Sql): Promise<void> {
  const tables = await sql<{ name: string }[]>`
    select oid::regclass::text as name from pg_class where relnamespace = 'stepwell'::regnamespace and relkind = 'r'`
  for (const { name } of tables) await sql`alter table ${sql(name)} set (autovacuum_enabled = off)`
}

/** Many rows that come and go, and a few that stay. */
async function rush(sql: Sql): Promise<void> {
  await sql`
    insert into stepwell.runs (ws, id, function, created_at)
    select ${store.ws}, gen_random_uuid(), 'greet', now() from generate_series(1, 5000)`
  await sql`insert into stepwell.queue (ws, run_id, ready_at) select ws, id, now() + interval '1 day' from stepwell.runs`
  await sql`
    insert into stepwell.waits (ws, run_id, key, generation, kind, due_at, opened_at)
    select ws, id, 'k', 1, 'sleep', now() + interval '1 day', now() from stepwell.runs`
  await sql`delete from stepwell.queue where run_id::text > '01'`
  await sql`delete from stepwell.waits where run_id::text > '01'`
  await sql`delete from stepwell.runs where id::text > '01'`
}

async function blocks(on: Store, reader: Sql): Promise<number> {
  await on.sql`select pg_stat_force_next_flush()`
  await on.sql`select 1`
  const [row] = await reader<{ blocks: number }[]>`
    select (sum(heap_blks_hit + heap_blks_read) + sum(idx_blks_hit + idx_blks_read))::int as blocks
    from pg_statio_user_tables where schemaname = 'stepwell'`
  return row?.blocks ?? 0
}

test.each([
  ['were empty and never analysed', async () => {}],
  ['were empty and analysed', async (sql: Sql) => void (await sql`analyze`)],
  [
    'were nearly empty after a rush',
    async (sql: Sql) => {
      await rush(sql)
      await sql`vacuum analyze`
    },
  ],
])('plans made while the tables %s read few blocks when they are full', async (_name, prepare) => {
  const reader = store.sql
  const sql = open(store.connection, 1)
  const on = { ...store, sql, ws: store.ws }
  await stopAutovacuum(reader)
  await prepare(sql)
  for (let n = 0; n < 8; n += 1) await live(on, (_what, call) => call())
  await fill(on)
  await sql`select pg_stat_force_next_flush()`
  while ((await refreshStatistics(reader)) !== null);

  const read: Record<string, number> = {}
  await live(on, async (what, call) => {
    const before = await blocks(on, reader)
    await call()
    read[what] = (await blocks(on, reader)) - before
  })

  await sql`vacuum`
  await sql.end()
  expect(Object.fromEntries(Object.entries(read).filter(([, count]) => count > BLOCKS_MAX))).toEqual({})
})
