import { describe, expect, test } from 'vitest'
import type { RunId } from '../../src/core/ids.ts'
import { transaction } from '../../src/store/db.ts'
import { findTimed, fireTimers } from '../../src/store/timers.ts'
import { saveApp } from '../../src/store/workspaces.ts'
import {
  anAdvance,
  anEvent,
  aRetry,
  aSleep,
  aWait,
  databaseNowMs,
  inboxOf,
  journalOf,
  leaseOne,
  parkRun,
  parkRuns,
  passTime,
  queueRowOf,
  send,
  someoneWaits,
  startRun,
  useStore,
  writeOne,
} from './fixture.ts'

const store = useStore()

async function fire(limit = 100) {
  return fireTimers(store.sql, store.ws, limit)
}

/** A leased run with an open sleep that is due. */
async function aLeasedSleeper() {
  await startRun(store)
  const leased = await leaseOne(store)
  await writeOne(store, anAdvance(leased, aSleep('nap', 0), 'running'))
  return { ...leased, journal: [...leased.journal, { ...leased.journal[0], seq: 2 }] } as typeof leased
}

describe('firing timers', () => {
  test('resumes what is due and nothing else', async () => {
    const now = await databaseNowMs(store)
    const due = await parkRun(store, aSleep('nap', now - 1))
    const later = await parkRun(store, aSleep('nap', now + 60_000))

    const { fired } = await fire()

    expect(fired).toBe(1)
    expect(await inboxOf(store, due)).toEqual(['sleep_completed nap'])
    expect(await queueRowOf(store, due)).toEqual({ owner: null, again: false })
    expect(await queueRowOf(store, later)).toBeNull()
  })

  test.each([
    ['a sleep', aSleep, 'sleep_completed'],
    ['a back-off', aRetry, 'step_due'],
    ['a wait', (key: string, dueAtMs: number) => aWait(key, { dueAtMs }), 'wait_expired'],
  ])('ends %s', async (_name, opened, type) => {
    const run = await parkRun(store, opened('it', 0))

    await fire()

    expect((await leaseOne(store)).journal.at(-1)).toMatchObject({ type, key: 'it', data: null })
    const [row] =
      await store.sql`select count(*)::int as open from stepwell.waits where ws = ${store.ws} and run_id = ${run}`
    expect(row?.open).toBe(0)
  })

  test('says how long it is until the next one, to the microsecond', async () => {
    const dueAtMs = (await databaseNowMs(store)) + 30_000.25
    await parkRun(store, aSleep('nap', dueAtMs))

    const before = await databaseNowMs(store)
    const { fired, nextMs } = await fire()
    const after = await databaseNowMs(store)

    expect(fired).toBe(0)
    expect(nextMs).toBeLessThanOrEqual(dueAtMs + 0.001 - before)
    expect(nextMs).toBeGreaterThanOrEqual(dueAtMs - after)
  })

  test('says that there is no next one, whoever waits without end', async () => {
    const run = await parkRun(store, aWait('go'))

    expect(await fire()).toMatchObject({ fired: 0, nextMs: null })
    expect(await findTimed(store.sql)).not.toContain(store.ws)
    await send(store, [anEvent()])
    expect(await queueRowOf(store, run)).not.toBeNull()
  })

  test('fires a limited number, the earliest first, and says that more are due', async () => {
    const runs = await parkRuns(store, 5, n => aSleep('nap', 1_000 - n))
    expect(await findTimed(store.sql)).toContain(store.ws)

    const { fired, nextMs } = await fire(2)

    expect(fired).toBe(2)
    expect(nextMs).toBeLessThan(0)
    expect(await Promise.all(runs.map(run => queueRowOf(store, run)))).toEqual([
      null,
      null,
      null,
      expect.anything(),
      expect.anything(),
    ])
    expect((await fire()).fired).toBe(3)
  })

  test('keeps a due time to the microsecond, never earlier than asked', async () => {
    const asked = [1_700_000_000_000.25, 1_700_000_000_000 + 1 / 2_048, 1_700_000_000_000.999, 1_700_000_000_001]
    await parkRun(
      store,
      asked.flatMap((dueAtMs, n) => aSleep(`nap ${n}`, dueAtMs)),
    )

    const rows = await store.sql<{ micros: string }[]>`
      select (extract(epoch from due_at) * 1000000)::bigint as micros from stepwell.waits where ws = ${store.ws} order by ord`

    expect(rows.map(row => row.micros)).toEqual([
      '1700000000000250',
      '1700000000000001',
      '1700000000000999',
      '1700000000001000',
    ])
  })

  test('resumes several waits of one run in the order in which they were due', async () => {
    const run = await parkRun(store, [...aSleep('c', 3), ...aSleep('a', 1), ...aRetry('b', 2), ...aSleep('d', 3)])

    await fire()

    await leaseOne(store)
    expect((await journalOf(store, run)).slice(4).map(({ line }) => line)).toEqual([
      'sleep_completed a',
      'step_due b',
      'sleep_completed c',
      'sleep_completed d',
    ])
  })

  test('tells the holder of a leased run', async () => {
    const leased = await aLeasedSleeper()

    await fire()

    expect(await queueRowOf(store, leased.runId)).toEqual({ owner: store.worker, again: true })
    const result = await writeOne(store, anAdvance(leased, [], 'running'))
    expect(result.delivered).toMatchObject([{ seq: 3, type: 'sleep_completed', key: 'nap' }])
    await writeOne(store, anAdvance(leased, [], 'done', { nextSeq: 4 }))
  })

  test('is done by one process at a time', async () => {
    await parkRuns(store, 2, () => aSleep('nap', 0))

    const other = await transaction(store.connection, async tx => {
      await fireTimers(tx, store.ws, 1)
      return fire()
    })

    expect(other.fired).toBe(0)
    expect(other.nextMs).toBeLessThan(0)
    expect((await fire()).fired).toBe(1)
  })

  test('leaves nothing for a run that ends in that moment', async () => {
    const leased = await aLeasedSleeper()

    const { firing } = await transaction(store.connection, async tx => {
      await writeOne(store, anAdvance(leased, [], 'done'), tx)
      const firing = fire()
      await someoneWaits(store)
      return { firing }
    })

    expect(await firing).toMatchObject({ fired: 0, nextMs: null })
    expect(await queueRowOf(store, leased.runId)).toBeNull()
  })

  test('leaves a wait alone that is put off in that moment, and its run asleep', async () => {
    const run = await parkRun(store, aSleep('nap', 0))

    const { firing } = await transaction(store.connection, async tx => {
      await tx`update stepwell.waits set due_at = now() + interval '1 hour' where ws = ${store.ws}`
      const firing = fire()
      await someoneWaits(store)
      return { firing }
    })

    expect((await firing).fired).toBe(0)
    expect(await queueRowOf(store, run)).toBeNull()
  })

  test('resends a turn without a note in the journal', async () => {
    const run = await startRun(store)
    await writeOne(store, anAdvance(await leaseOne(store), [], 'trouble'))
    await passTime(store, 60_000)

    expect((await fire()).fired).toBe(1)

    expect((await leaseOne(store)).runId).toBe(run)
    expect(await journalOf(store, run)).toEqual([])
  })
})

describe('an app that registers', () => {
  const app = { url: 'http://app', functions: [] }

  test('is tried again at once by the runs that wait for it', async () => {
    const run = await startRun(store)
    await writeOne(store, anAdvance(await leaseOne(store), [], 'trouble'))
    const asleep = await parkRun(store, aSleep('nap', (await databaseNowMs(store)) + 60_000))

    await saveApp(store.sql, store.ws, app)
    await fire()

    expect(await queueRowOf(store, run)).not.toBeNull()
    expect(await queueRowOf(store, asleep)).toBeNull()
    await bringBackVersion()
  })

  test('does not wait for runs that are being woken', async () => {
    const run = await startRun(store)
    await writeOne(store, anAdvance(await leaseOne(store), [], 'trouble'))
    await passTime(store, 59_000)

    await transaction(store.connection, async tx => {
      await tx`select from stepwell.waits where ws = ${store.ws} for update`
      await saveApp(store.sql, store.ws, app)
    })

    expect(await queueRowOf(store, run as RunId)).toBeNull()
    await bringBackVersion()
  })

  async function bringBackVersion(): Promise<void> {
    await store.sql`update stepwell.workspaces set version = 1 where ws = ${store.ws}`
  }
})
