import { describe, expect, test } from 'vitest'
import type { RunId, Token, WorkspaceId } from '../../src/core/ids.ts'
import { transaction } from '../../src/store/db.ts'
import { giveBack } from '../../src/store/queue.ts'
import { type Recording, record } from '../../src/store/record.ts'
import {
  anAdvance,
  anEvent,
  aRecord,
  aSleep,
  aWait,
  databaseNowMs,
  inboxOf,
  journalOf,
  type Leased,
  lease,
  leaseOne,
  newToken,
  parkRun,
  queueRowOf,
  send,
  someoneWaits,
  startRun,
  startRuns,
  useStore,
  write,
  writeOne,
} from './fixture.ts'

const store = useStore()
const REFUSED = { status: 'refused' }
const OK = { status: 'ok', nowMs: expect.any(Number) }

/** Results of steps of a leased run, the next in its journal. */
function aRecording(leased: Leased, keys: string[], next: Partial<Recording> = {}): Recording {
  return {
    runId: leased.runId,
    token: leased.token,
    generation: leased.generation,
    turn: leased.turn,
    nextSeq: (leased.journal.at(-1)?.seq ?? 0) + 1,
    entries: keys.map(key => aRecord({ key, data: JSON.stringify({ key }) })),
    ...next,
  }
}

/** The keys in a run's journal, and whether its seq is dense from 1. */
async function keysOf(run: RunId): Promise<{ keys: (string | null)[]; isDense: boolean }> {
  const rows = await store.sql<{ seq: number; key: string | null }[]>`
    select seq, key from stepwell.journal where ws = ${store.ws} and run_id = ${run} order by seq`
  return { keys: rows.slice(1).map(row => row.key), isDense: rows.every((row, at) => row.seq === at + 1) }
}

describe('results of steps', () => {
  test('are written as they are, and the lease is kept', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    const before = await databaseNowMs(store)

    const [recorded] = await record(store.sql, store.ws, [
      aRecording(leased, [], {
        entries: [
          aRecord({ key: 'a, "b" {\\}', data: '{"x":"\\"}, null"}', saw: 1, startedMs: 0.25, durationMs: 1.5 }),
          aRecord({ key: 'null', data: null }),
          aRecord({ key: 'ü', data: '"NULL"' }),
          aRecord({ key: 'c', type: 'step_failed', data: '{"attempt":1}' }),
        ],
      }),
    ])

    expect(recorded).toEqual(OK)
    expect(recorded?.status === 'ok' && recorded.nowMs).toBeGreaterThanOrEqual(before)
    expect(await journalOf(store, run)).toEqual([
      { line: 'step_completed a, "b" {\\}', data: { x: '"}, null' } },
      { line: 'step_completed null', data: null },
      { line: 'step_completed ü', data: 'NULL' },
      { line: 'step_failed c', data: { attempt: 1 } },
    ])
    const [row] = await store.sql`
      select turn, generation, saw, settles, started_ms, duration_ms from stepwell.journal
      where ws = ${store.ws} and run_id = ${run} and seq = 2`
    expect(row).toEqual({ turn: 1, generation: 1, saw: 1, settles: true, startedMs: 0.25, durationMs: 1.5 })
    expect(await queueRowOf(store, run)).toEqual({ owner: store.worker, again: false })
  })

  test('of many runs are one statement, answered in order', async () => {
    await startRuns(store, 300)
    const leased = await lease(store, 300)
    const shuffled = leased.toSorted((a, b) => (a.runId.slice(-4) < b.runId.slice(-4) ? -1 : 1))

    const recorded = await record(
      store.sql,
      store.ws,
      shuffled.map((run, n) => aRecording(run, n % 3 === 0 ? [] : [`a ${n}`, `b ${n}`])),
    )

    expect(recorded).toEqual(shuffled.map(() => OK))
    for (const [n, run] of shuffled.entries())
      expect(await keysOf(run.runId)).toEqual({ keys: n % 3 === 0 ? [] : [`a ${n}`, `b ${n}`], isDense: true })
  })

  test('none at all are taken, while the lease holds', async () => {
    await startRun(store)
    const leased = await leaseOne(store)

    const [held] = await record(store.sql, store.ws, [aRecording(leased, [])])
    await giveBack(store.sql, store.ws, leased.runId, leased.token)
    const [lost] = await record(store.sql, store.ws, [aRecording(leased, [])])

    expect(held).toEqual(OK)
    expect(lost).toEqual(REFUSED)
  })

  test('are settled once: a second result of a key fails as a whole and writes nothing', async () => {
    await startRuns(store, 2)
    const [one, two] = (await lease(store)) as [Leased, Leased]
    await record(store.sql, store.ws, [aRecording(one, ['charge'])])

    const again = record(store.sql, store.ws, [aRecording(two, ['other']), aRecording(one, ['charge'], { nextSeq: 3 })])

    await expect(again).rejects.toMatchObject({ code: '23505' })
    expect(await keysOf(one.runId)).toEqual({ keys: ['charge'], isDense: true })
    expect(await keysOf(two.runId)).toEqual({ keys: [], isDense: true })
  })
})

describe('are refused, and nothing of them is written:', () => {
  test.each<[string, (leased: Leased) => Promise<Token | undefined>]>([
    ['another token', async () => newToken()],
    [
      'a run that nobody has any more',
      async ({ runId, token }) => void (await giveBack(store.sql, store.ws, runId, token)),
    ],
    [
      'a run that another has taken over',
      async ({ runId, token }) => {
        await giveBack(store.sql, store.ws, runId, token)
        await leaseOne(store)
      },
    ],
    ['a run that waits', async leased => void (await writeOne(store, anAdvance(leased, aWait('go'), 'waiting')))],
    ['a run that has ended', async leased => void (await writeOne(store, anAdvance(leased, [], 'done')))],
  ])('%s', async (_what, change) => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    const token = await change(leased)
    const before = await keysOf(run)

    const recorded = await record(store.sql, store.ws, [
      aRecording(leased, ['late'], token === undefined ? {} : { token }),
    ])

    expect(recorded).toEqual([REFUSED])
    expect(await keysOf(run)).toEqual(before)
  })

  test('a run of another workspace', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)

    const recorded = await record(store.sql, (store.ws + 1_000) as WorkspaceId, [aRecording(leased, ['stray'])])

    expect(recorded).toEqual([REFUSED])
    expect(await keysOf(run)).toEqual({ keys: [], isDense: true })
  })

  test('a run for which something has arrived; advance delivers it first, and seq stays dense', async () => {
    const run = await parkRun(store, [...aWait('go'), ...aSleep('nap', (await databaseNowMs(store)) + 60_000)])
    await store.sql`insert into stepwell.queue (ws, run_id, ready_at) values (${store.ws}, ${run}, now())`
    const leased = await leaseOne(store)
    await send(store, [anEvent()])
    const recording = aRecording(leased, ['charge'])

    const recorded = await record(store.sql, store.ws, [recording])
    const keysAfter = (await keysOf(run)).keys
    const advanced = await writeOne(store, anAdvance(leased, recording.entries, 'running'))
    const next = await record(store.sql, store.ws, [aRecording(leased, ['next'], { nextSeq: advanced.firstSeq + 1 })])

    expect(recorded).toEqual([REFUSED])
    expect(keysAfter).toEqual(['go', 'nap'])
    expect(next).toEqual([OK])
    expect(await keysOf(run)).toEqual({ keys: ['go', 'nap', 'go', 'charge', 'next'], isDense: true })
    expect(await inboxOf(store, run)).toEqual([])
  })

  test('the ones among others that are stale', async () => {
    await startRuns(store, 6)
    const leased = await lease(store)
    const items = leased.map((run, n) =>
      aRecording(n % 2 === 0 ? run : { ...run, token: newToken() }, [`step ${n}`, `more ${n}`]),
    )

    const recorded = await record(store.sql, store.ws, items)

    expect(recorded).toEqual([OK, REFUSED, OK, REFUSED, OK, REFUSED])
    for (const [n, run] of leased.entries())
      expect((await keysOf(run.runId)).keys).toEqual(n % 2 === 0 ? [`step ${n}`, `more ${n}`] : [])
  })

  test.each(['before', 'after'])('the late one of two holders of a run, %s the right one', async place => {
    const run = await startRun(store)
    const early = await leaseOne(store)
    await giveBack(store.sql, store.ws, run, early.token)
    const late = await leaseOne(store)
    const [stale, good] = [aRecording(early, ['stale']), aRecording(late, ['good'])]

    const recorded = await record(store.sql, store.ws, place === 'before' ? [stale, good] : [good, stale])

    expect(recorded).toEqual(place === 'before' ? [REFUSED, OK] : [OK, REFUSED])
    expect(await keysOf(run)).toEqual({ keys: ['good'], isDense: true })
  })
})

describe('at the same time', () => {
  test('an event that arrives first makes them go through advance', async () => {
    const run = await parkRun(store, aWait('go'))
    await store.sql`insert into stepwell.queue (ws, run_id, ready_at) values (${store.ws}, ${run}, now())`
    const leased = await leaseOne(store)

    const recording = await transaction(store.connection, async tx => {
      await send(store, [anEvent()], tx)
      const waiting = record(store.sql, store.ws, [aRecording(leased, ['charge'])])
      await someoneWaits(store)
      return { waiting }
    })

    expect(await recording.waiting).toEqual([REFUSED])
    expect(await keysOf(run)).toEqual({ keys: ['go'], isDense: true })
  })

  test('an event that arrives later waits for them, and comes behind', async () => {
    const run = await parkRun(store, aWait('go'))
    await store.sql`insert into stepwell.queue (ws, run_id, ready_at) values (${store.ws}, ${run}, now())`
    const leased = await leaseOne(store)

    const sending = await transaction(store.connection, async tx => {
      await record(tx, store.ws, [aRecording(leased, ['charge'])])
      const waiting = send(store, [anEvent()])
      await someoneWaits(store)
      return { waiting }
    })
    await sending.waiting
    const [late] = await record(store.sql, store.ws, [aRecording(leased, ['more'], { nextSeq: 4 })])
    await writeOne(store, anAdvance(leased, [aRecord({ key: 'more' })], 'running', { nextSeq: 4 }))

    expect(late).toEqual(REFUSED)
    expect(await keysOf(run)).toEqual({ keys: ['go', 'charge', 'go', 'more'], isDense: true })
  })

  test('batches of the same runs in any order do not wait for each other for ever', async () => {
    await startRuns(store, 40)
    const leased = await lease(store)
    const wrong = leased.map(run => ({ ...run, token: newToken() }))

    const rounds = await Promise.all([
      record(
        store.sql,
        store.ws,
        leased.map(run => aRecording(run, ['a'])),
      ),
      ...Array.from({ length: 10 }, (_, n) =>
        record(
          store.sql,
          store.ws,
          (n % 2 === 0 ? wrong : wrong.toReversed()).map(run => aRecording(run, ['b'])),
        ),
      ),
      write(
        store,
        wrong.toReversed().map(run => anAdvance(run, [aRecord({ key: 'c' })], 'running')),
      ),
    ])

    expect(rounds[0]).toEqual(leased.map(() => OK))
    for (const run of leased) expect((await keysOf(run.runId)).keys).toEqual(['a'])
  })
})
