import { beforeEach, describe, expect, test } from 'vitest'
import type { RunId } from '../../src/core/ids.ts'
import { transaction } from '../../src/store/db.ts'
import { findFanouts, WAKES_PER_INGEST_MAX, walkFanouts } from '../../src/store/ingest.ts'
import {
  anAdvance,
  anEvent,
  aWait,
  journalOf,
  lease,
  leaseOne,
  parkRun,
  parkRuns,
  send,
  someoneWaits,
  startRun,
  useStore,
  write,
  writeOne,
} from './fixture.ts'

const store = useStore()
const MANY = WAKES_PER_INGEST_MAX + 1

async function walkAll(limit: number): Promise<number[]> {
  const woken: number[] = []
  for (;;) {
    const batch = await walkFanouts(store.sql, store.ws, limit)
    if (!batch.more) return woken
    woken.push(batch.woken)
  }
}

/** How many runs lie in the queue. */
async function queued(): Promise<number> {
  const [row] = await store.sql<{ n: number }[]>`select count(*)::int as n from stepwell.queue where ws = ${store.ws}`
  return row?.n ?? 0
}

/** Key and data of what a run's waits got, in order. */
async function gotten(run: RunId): Promise<[string, unknown][]> {
  const rows = await store.sql<{ key: string; data: string }[]>`
    select key, data from (
      select key, data, arrived_at as at, ord as n from stepwell.inbox where ws = ${store.ws} and run_id = ${run}
      union all
      select key, data, null, seq from stepwell.journal
      where ws = ${store.ws} and run_id = ${run} and type = 'wait_matched'
    ) all_of order by at nulls first, n`
  return rows.map(({ key, data }) => [key, (JSON.parse(data) as { data: unknown }).data])
}

describe('an event for more waits than one commit wakes', () => {
  let runs: RunId[]
  beforeEach(async () => {
    runs = await parkRuns(store, MANY, () => aWait('go'))
    await send(store, [anEvent({ data: 1 })])
  })

  test('wakes nobody at once, and all of them in batches', async () => {
    expect(await queued()).toBe(0)
    expect(await findFanouts(store.sql)).toEqual([store.ws])

    const woken = await walkAll(400)

    expect(woken).toEqual([400, 400, 201, 0])
    expect(await queued()).toBe(MANY)
    expect(await gotten(runs[MANY - 1] as RunId)).toEqual([['go', 1]])
    expect(await findFanouts(store.sql)).toEqual([])
  })

  test('is not overtaken by one that comes after it', async () => {
    await walkFanouts(store.sql, store.ws, 600)
    await send(store, [anEvent({ data: 2 })])

    await walkAll(600)

    const all = await Promise.all(runs.map(gotten))
    expect(new Set(all.map(got => JSON.stringify(got)))).toEqual(new Set(['[["go",1]]']))
  })

  test('is found by a wait that is opened meanwhile, once', async () => {
    const late = await startRun(store)
    // as if it had begun before the event
    await store.sql`
      update stepwell.runs set created_at = created_at - interval '1 minute' where ws = ${store.ws} and id = ${late}`

    const result = await writeOne(store, anAdvance(await leaseOne(store), aWait('late'), 'waiting'))
    await walkAll(600)

    expect(result.status).toBe('requeued')
    expect(await gotten(late)).toEqual([['late', 1]])
  })

  test('leaves alone runs that began after it', async () => {
    const late = await parkRun(store, aWait('late'))

    await walkAll(600)

    expect(await gotten(late)).toEqual([])
    expect(await queued()).toBe(MANY)
  })

  test('is not given to a second wait of a run that was opened while it was on its way', async () => {
    const [run] = runs as [RunId]
    // something else makes the run runnable, and it opens another wait of the same shape
    await store.sql`insert into stepwell.queue (ws, run_id, ready_at) values (${store.ws}, ${run}, now())`
    const result = await writeOne(store, anAdvance(await leaseOne(store), aWait('second'), 'waiting'))

    await walkAll(600)
    await send(store, [anEvent({ data: 2 })])
    await walkAll(600)

    expect(result.status).toBe('ok')
    expect(await gotten(run)).toEqual([
      ['go', 1],
      ['second', 2],
    ])
  })

  test('finds that a run has ended meanwhile, and leaves no row for it', async () => {
    const [run] = runs as [RunId]
    await store.sql`insert into stepwell.queue (ws, run_id, ready_at) values (${store.ws}, ${run}, now())`
    const leased = await leaseOne(store)

    const { walking } = await transaction(store.connection, async tx => {
      await writeOne(store, anAdvance(leased, [], 'done'), tx)
      const walking = walkFanouts(store.sql, store.ws, MANY)
      await someoneWaits(store)
      return { walking }
    })

    expect((await walking).woken).toBe(MANY - 1)
    await walkAll(600)
    expect(await queued()).toBe(MANY - 1)
  })

  test('is walked by one process at a time', async () => {
    const second = await transaction(store.connection, async tx => {
      await walkFanouts(tx, store.ws, 10)
      return walkFanouts(store.sql, store.ws, 10)
    })

    expect(second).toEqual({ woken: 0, more: false })
    await walkAll(600)
  })
})

test('two fan-outs at once give a run with two waits both events, in order', async () => {
  const runs = await parkRuns(store, WAKES_PER_INGEST_MAX / 2 + 1, () => [...aWait('a'), ...aWait('b')])
  await send(store, [anEvent({ data: 1 }), anEvent({ data: 2 })])

  await walkAll(300)

  for (const leased of await lease(store, 5)) {
    await write(store, [anAdvance(leased, [], 'done')])
    expect((await journalOf(store, leased.runId)).slice(2)).toMatchObject([
      { line: 'wait_matched a', data: { data: 1 } },
      { line: 'wait_matched b', data: { data: 2 } },
    ])
  }
  expect(runs).toHaveLength(501)
})
