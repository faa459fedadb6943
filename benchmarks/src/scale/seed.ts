/*
 * A million runs in seconds: straight into the tables, as the engine would have left them. check_invariants() holds
 * afterwards. Ids are those of an hour ago, so that they lie before what is measured, as older runs do.
 */
import type { WorkspaceId } from 'stepwell/src/core/ids.ts'
import type { Sql } from 'stepwell/src/store/db.ts'

/** Runs with the numbers `from` to `from + count - 1`. */
export interface Seeds {
  sql: Sql
  ws: WorkspaceId
  from: number
  count: number
}

/** The event that the runs of `seedWaiting` wait for, each with its own `id`; nothing else uses it. */
export const AWAITED_EVENT = 'bench.awaited'
const PATHS = '["id"]'

const CHUNK = 100_000
const EVENT_TEXT =
  '{"id":"evt_seed","name":"bench.seed","data":{"id":"cus_4711","amount":4200},"ts":"2026-01-01T00:00:00.000Z"}'

/** Runs that may run now, of the function `name`. */
export async function seedQueued(seeds: Seeds, name: string): Promise<void> {
  await inChunks(seeds, 'queued', async ({ sql, ws }) => {
    await insertRuns({ sql, ws, name, turnsSettled: 0 })
    await sql`insert into stepwell.queue (ws, run_id, ready_at) select ${ws}::int, id, at from seeded`
  })
}

/** Runs that sleep for a month. */
export async function seedSleeping(seeds: Seeds): Promise<void> {
  await inChunks(seeds, 'sleeping', async ({ sql, ws }) => {
    await insertRuns({ sql, ws, name: 'sleeper', turnsSettled: 1 })
    await insertEntry({
      sql,
      ws,
      seq: 2,
      type: 'sleep_started',
      key: 'nap',
      settles: false,
      data: '{"until":"2027-01-01T00:00:00.000Z"}',
    })
    await sql`
      insert into stepwell.waits (ws, run_id, key, generation, kind, due_at, opened_at)
      select ${ws}::int, id, 'nap', 1, 'sleep', now() + interval '30 days' + n * interval '1 second', at from seeded`
  })
}

/** Runs that wait for an event each: for run n its `data.id` is n. */
export async function seedWaiting(seeds: Seeds): Promise<void> {
  const { sql, ws } = seeds
  await sql`
    insert into stepwell.match_shapes (ws, event, paths, complete_since)
    values (${ws}, ${AWAITED_EVENT}, ${PATHS}, now() - interval '1 day') on conflict do nothing`
  await sql`update stepwell.workspaces set version = version + 1 where ws = ${ws}`
  await inChunks(seeds, 'waiting for events', async () => {
    await insertRuns({ sql, ws, name: 'waiter', turnsSettled: 1 })
    await insertEntry({
      sql,
      ws,
      seq: 2,
      type: 'wait_opened',
      key: 'news',
      settles: false,
      data: `{"event":"${AWAITED_EVENT}"}`,
    })
    // The hash is that of core/match.ts: SHA-256 of the JSON text, its first half as a uuid.
    await sql`
      insert into stepwell.waits (ws, run_id, key, generation, kind, event, hash, opened_at)
      select ${ws}::int, id, 'news', 1, 'event', ${AWAITED_EVENT},
        substr(encode(sha256(convert_to(format('["%s",%s,[%s]]', ${AWAITED_EVENT}::text, ${PATHS}::text, n), 'utf8')), 'hex'), 1, 32)::uuid,
        at
      from seeded`
  })
}

/** Runs of one step that have completed. */
export async function seedFinished(seeds: Seeds): Promise<void> {
  await inChunks(seeds, 'finished', async ({ sql, ws }) => {
    await insertEntry({ sql, ws, seq: 1, type: 'run_started', key: null, settles: false, data: EVENT_TEXT })
    await insertEntry({
      sql,
      ws,
      seq: 2,
      type: 'step_completed',
      key: 'charge',
      settles: true,
      data: '{"id":"cus_4711"}',
    })
    await sql`
      insert into stepwell.runs_done (ws, id, function, generation, state, attempts, created_at, finished_at, output)
      select ${ws}::int, id, 'finisher', 1, 'completed', 1, at, now(), '{"id":"cus_4711"}' from seeded`
    await sql`
      insert into stepwell.turns (ws, run_id, generation, turn, settled_at, outcome, runnable_at, claimed_at)
      select ${ws}::int, id, 1, 1, now(), 'done', at, at from seeded`
  })
}

/** The table `seeded` holds a chunk's ids: a v7 uuid is its time, and then chance. */
async function inChunks(seeds: Seeds, what: string, insert: (seeds: Seeds) => Promise<void>): Promise<void> {
  const { sql, from, count } = seeds
  for (let done = 0; done < count; done += CHUNK) {
    const [first, last] = [from + done, from + Math.min(done + CHUNK, count) - 1]
    await sql`
      create temp table seeded as
      select n, at,
        (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid as id
      from (
        select n, now() - interval '1 hour' + n * interval '1 millisecond' as at, md5(n::text) as h
        from generate_series(${first}::int, ${last}::int) n
      ) s`
    await insert(seeds)
    await sql`drop table seeded`
    process.stderr.write(
      `\r    ${(from + done + CHUNK > from + count ? count : done + CHUNK).toLocaleString('en')} ${what} seeded `,
    )
  }
  if (count > 0) {
    // What autovacuum comes to within a minute.
    await sql`vacuum analyze`
    await sql`checkpoint`
  }
  process.stderr.write('\r\x1b[K')
}

async function insertRuns(given: { sql: Sql; ws: WorkspaceId; name: string; turnsSettled: number }): Promise<void> {
  const { sql, ws, name, turnsSettled } = given
  await sql`
    insert into stepwell.runs (ws, id, function, turns_settled, created_at)
    select ${ws}::int, id, ${name}, ${turnsSettled}::int, at from seeded`
  await insertEntry({ sql, ws, seq: 1, type: 'run_started', key: null, settles: false, data: EVENT_TEXT })
}

async function insertEntry(given: {
  sql: Sql
  ws: WorkspaceId
  seq: number
  type: string
  key: string | null
  settles: boolean
  data: string
}): Promise<void> {
  const { sql, ws, seq, type, key, settles, data } = given
  await sql`
    insert into stepwell.journal (ws, run_id, generation, seq, turn, at, type, key, settles, event_id, data)
    select ${ws}::int, id, 1, ${seq}::int, 1, at, ${type}, ${key}::text, ${settles}::boolean,
      case when ${seq}::int = 1 then gen_random_uuid() end, ${data}
    from seeded`
}
