import { describe, expect, test } from 'vitest'
import type { Change } from '../../src/core/change.ts'
import type { RunId, Token } from '../../src/core/ids.ts'
import { askToCancel } from '../../src/store/cancellations.ts'
import { giveBack } from '../../src/store/queue.ts'
import { findRun } from '../../src/store/runs.ts'
import { fireTimers } from '../../src/store/timers.ts'
import {
  anAdvance,
  anEvent,
  aRecord,
  aRetry,
  aSettle,
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
  passTime,
  queueRowOf,
  send,
  startRun,
  startRuns,
  TROUBLE,
  useStore,
  write,
  writeOne,
} from './fixture.ts'

const store = useStore()
const STEPS = ['running', 'waiting', 'continue', 'trouble', 'done'] as const

/** Everything that is known about a run, to see that nothing has changed. */
async function everythingOf(run: RunId): Promise<unknown> {
  const [row] = await store.sql`
    select
      (select json_agg(t)::text from stepwell.runs t where ws = ${store.ws} and id = ${run}) as run,
      (select json_agg(t)::text from stepwell.queue t where ws = ${store.ws} and run_id = ${run}) as queue,
      (select json_agg(t order by key)::text from stepwell.waits t where ws = ${store.ws} and run_id = ${run}) as waits,
      (select json_agg(t order by key)::text from stepwell.inbox t where ws = ${store.ws} and run_id = ${run}) as inbox,
      (select json_agg(t order by seq)::text from stepwell.journal t where ws = ${store.ws} and run_id = ${run}) as journal,
      (select json_agg(t)::text from stepwell.runs_done t where ws = ${store.ws} and id = ${run}) as done,
      (select count(*)::int from stepwell.turns t where ws = ${store.ws} and run_id = ${run}) as turns`
  return row
}

async function turnsOf(run: RunId) {
  return store.sql`
    select turn, outcome, sent_ms, first_byte_ms, ended_ms, replay_ms, runnable_at <= claimed_at as in_order
    from stepwell.turns where ws = ${store.ws} and run_id = ${run} order by settled_at`
}

/** A leased run with an open wait, an open sleep, and something undelivered: every statement would find a row to change. */
async function aBusyRun(): Promise<Leased> {
  await parkRun(store, [...aWait('go'), ...aWait('more'), ...aSleep('nap', (await databaseNowMs(store)) + 60_000)])
  await send(store, [anEvent()])
  const leased = await leaseOne(store)
  await send(store, [anEvent()])
  return leased
}

const CHANGES: Change[] = [aRecord({ key: 'charge' }), ...aWait('third'), ...aSleep('other', 1)]

describe('a lease that is over', () => {
  test.each(STEPS)('changes nothing by a report that ends as %s', async step => {
    const leased = await aBusyRun()
    const before = await everythingOf(leased.runId)

    const results = await write(store, [{ ...anAdvance(leased, CHANGES, step), token: newToken() }])

    expect(results).toEqual([{ status: 'stale' }])
    expect(await everythingOf(leased.runId)).toEqual(before)
  })

  test.each(STEPS)('changes nothing as %s when nobody has the run', async step => {
    const leased = await aBusyRun()
    await giveBack(store.sql, store.ws, leased.runId, leased.token)
    const before = await everythingOf(leased.runId)

    expect(await write(store, [anAdvance(leased, CHANGES, step)])).toEqual([{ status: 'stale' }])
    expect(await everythingOf(leased.runId)).toEqual(before)
  })

  test.each(STEPS)('changes nothing as %s when the run has ended', async step => {
    await startRun(store)
    const leased = await leaseOne(store)
    await writeOne(store, anAdvance(leased, [], 'done'))
    const before = await everythingOf(leased.runId)

    expect(await write(store, [anAdvance(leased, CHANGES, step)])).toEqual([{ status: 'stale' }])
    expect(await everythingOf(leased.runId)).toEqual(before)
  })

  test('does not hold up the others of its batch', async () => {
    await startRuns(store, 5)
    const leased = await lease(store)

    const results = await write(
      store,
      leased.map((run, n) =>
        anAdvance(
          n % 2 === 0 ? run : { ...run, token: '1' as Token },
          [aRecord({ key: `step ${n}`, data: `${n}` })],
          STEPS[n] ?? 'done',
        ),
      ),
    )

    expect(results.map(result => result.status)).toEqual(['ok', 'stale', 'requeued', 'stale', 'ok'])
    for (const [n, run] of leased.entries())
      expect(await journalOf(store, run.runId)).toEqual(
        n % 2 === 0 ? [{ line: `step_completed step ${n}`, data: n }] : [],
      )
  })
})

test.each(['done', 'trouble', 'waiting', 'continue', 'running'] as const)(
  'a late report of an earlier lease does not get in the way of the one that ends as %s',
  async step => {
    await startRun(store)
    const early = await leaseOne(store)
    await giveBack(store.sql, store.ws, early.runId, early.token)
    const late = await leaseOne(store)
    const other = { ...TROUBLE, message: 'From an earlier life.' }

    const results = await write(store, [
      anAdvance(early, CHANGES, { kind: 'settle', step: 'trouble', trouble: other, resendMs: 1 }),
      anAdvance(late, CHANGES, step),
      anAdvance(early, CHANGES, 'done', { attempts: 987_654 }),
    ])

    expect(results.map(result => result.status)).toEqual(['stale', step === 'continue' ? 'requeued' : 'ok', 'stale'])
    const run = await findRun(store.sql, store.ws, late.runId)
    expect(run).toMatchObject(step === 'done' ? { state: 'completed' } : { finishedAt: null })
    expect(JSON.stringify(run)).not.toMatch(/earlier life|987654/)
    if (step === 'trouble') expect(run?.waitingFor).toContain(TROUBLE.message)
  },
)

describe('a report while the turn goes on', () => {
  test('records and keeps the lease', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)

    const first = await writeOne(
      store,
      anAdvance(leased, [aRecord({ key: 'a', data: '{"x":"\\"}"}' }), aRecord({ key: 'b', data: null })], 'running'),
    )
    const second = await writeOne(store, anAdvance(leased, [aRecord({ key: 'c' })], 'running', { nextSeq: 4 }))

    expect([first.firstSeq, second.firstSeq]).toEqual([2, 4])
    expect(await journalOf(store, run)).toEqual([
      { line: 'step_completed a', data: { x: '"}' } },
      { line: 'step_completed b', data: null },
      { line: 'step_completed c', data: 1 },
    ])
    expect(await queueRowOf(store, run)).toEqual({ owner: store.worker, again: false })
    expect(await turnsOf(run)).toHaveLength(0)
  })

  test('puts what arrived before it, its own entries next, and what its look back found last', async () => {
    const leased = await aBusyRun()
    await send(store, [anEvent({ name: 'early' })])

    const result = await writeOne(
      store,
      anAdvance(leased, [aRecord({ key: 'charge' }), ...aWait('early', { event: 'early' })], 'running'),
    )

    expect(result.firstSeq).toBe(7)
    expect(result.delivered.map(({ seq, key }) => [seq, key])).toEqual([
      [6, 'more'],
      [9, 'early'],
    ])
    expect((await journalOf(store, leased.runId)).slice(4).map(({ line }) => line)).toEqual([
      'wait_matched more',
      'step_completed charge',
      'wait_opened early',
      'wait_matched early',
    ])
  })

  test('with nothing to say and nothing new changes nothing', async () => {
    await startRun(store)
    const leased = await leaseOne(store)
    const before = await everythingOf(leased.runId)

    const result = await writeOne(store, anAdvance(leased, [], 'running'))

    expect(result).toMatchObject({ status: 'ok', firstSeq: 2, delivered: [] })
    expect(await everythingOf(leased.runId)).toEqual(before)
  })
})

describe('a turn that ends', () => {
  test('as waiting leaves the queue, and the next one has the next number', async () => {
    const run = await parkRun(store, aWait('go'))

    expect(await queueRowOf(store, run)).toBeNull()
    await send(store, [anEvent()])
    expect((await leaseOne(store)).turn).toBe(2)
  })

  test('as continue is runnable again behind those that waited', async () => {
    const [first, second] = await startRuns(store, 2)
    const [leased] = await lease(store, 1)

    const result = await writeOne(store, anAdvance(leased as Leased, [], 'continue'))

    expect(result.status).toBe('requeued')
    expect((await lease(store, 1))[0]?.runId).toBe(second)
    expect((await lease(store, 1))[0]).toMatchObject({ runId: first, turn: 2 })
  })

  test('leaves its stamps', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    const stamps = { readyAtMs: leased.readyAtMs, sentMs: 0.5, firstByteMs: 2.25, endedMs: 3, replayMs: 0.125 }

    await writeOne(store, anAdvance(leased, [], 'done', { stamps }))

    expect(await turnsOf(run)).toEqual([
      { turn: 1, outcome: 'done', sentMs: 0.5, firstByteMs: 2.25, endedMs: 3, replayMs: 0.125, inOrder: true },
    ])
  })

  test('as done ends the run and everything it had open', async () => {
    const leased = await aBusyRun()
    await store.sql`update stepwell.queue set again = true where ws = ${store.ws}`

    await writeOne(store, anAdvance(leased, [aRecord({ key: 'charge' })], aSettle('done'), { attempts: 3 }))

    expect(await everythingOf(leased.runId)).toMatchObject({ run: null, queue: null, waits: null, inbox: null })
    expect(await findRun(store.sql, store.ws, leased.runId)).toMatchObject({
      state: 'completed',
      output: 1,
      attempts: 3,
    })
  })

  test('as failed keeps the error', async () => {
    await startRun(store)
    const leased = await leaseOne(store)
    const error = { name: 'Error', message: 'card "declined" {}' }

    await writeOne(
      store,
      anAdvance(leased, [], {
        kind: 'settle',
        step: 'done',
        state: 'failed',
        output: null,
        error: JSON.stringify(error),
      }),
    )

    expect(await findRun(store.sql, store.ws, leased.runId)).toMatchObject({ state: 'failed', error, output: null })
  })
})

describe('an app that does not answer', () => {
  test('gets the same turn again when the delay is over', async () => {
    const run = await startRun(store)
    await writeOne(store, anAdvance(await leaseOne(store), [], 'trouble'))

    expect(await lease(store)).toEqual([])
    await passTime(store, 60_000)
    await fireTimers(store.sql, store.ws, 10)

    const again = await leaseOne(store)
    expect(again).toMatchObject({ runId: run, turn: 1 })
    expect(JSON.parse(again.trouble ?? '')).toMatchObject({ code: 'app_unreachable' })
    expect(again.journal).toHaveLength(1)
  })

  test.each(['running', 'waiting', 'continue', 'done'] as const)(
    'and is woken by an event before that: an answer as %s clears the trouble and the resend',
    async step => {
      const run = await parkRun(store, aWait('go'))
      await store.sql`insert into stepwell.queue (ws, run_id, ready_at) values (${store.ws}, ${run}, now())`
      await writeOne(store, anAdvance(await leaseOne(store), [], 'trouble'))
      await send(store, [anEvent()])
      const leased = await leaseOne(store)
      expect(leased.trouble).not.toBeNull()

      await writeOne(store, anAdvance(leased, aWait('next', { event: 'other' }), step))

      const [row] = await store.sql`
        select count(*)::int as resends from stepwell.waits where ws = ${store.ws} and kind = 'resend'`
      expect(row?.resends).toBe(0)
      expect(await findRun(store.sql, store.ws, run)).not.toMatchObject({
        waitingFor: expect.stringContaining('Nobody'),
      })
    },
  )

  test('and is woken by an event before that: more trouble moves the resend', async () => {
    const run = await parkRun(store, aWait('go'))
    await store.sql`insert into stepwell.queue (ws, run_id, ready_at) values (${store.ws}, ${run}, now())`
    await writeOne(store, anAdvance(await leaseOne(store), [], 'trouble'))
    await passTime(store, 30_000)
    await send(store, [anEvent()])

    await writeOne(store, anAdvance(await leaseOne(store), [], 'trouble'))

    const { nextMs } = await fireTimers(store.sql, store.ws, 10)
    expect(nextMs).toBeGreaterThan(50_000)
  })

  test('keeps no run that was asked to end meanwhile from ending now', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    await askToCancel(store.sql, store.ws, [run], { by: 'request', message: 'No more.' })

    await writeOne(store, anAdvance(leased, [], 'trouble'))

    const again = await leaseOne(store)
    expect(again.journal.map(({ type }) => type)).toEqual(['run_started', 'cancel_requested'])
  })

  test('keeps what arrived for the turn that is sent again', async () => {
    const leased = await aBusyRun()

    await writeOne(store, anAdvance(leased, [], 'trouble'))

    expect(await inboxOf(store, leased.runId)).toEqual(['wait_matched more'])
  })
})

describe('keys', () => {
  test('are settled once: a second result is refused and writes nothing', async () => {
    await startRun(store)
    const leased = await leaseOne(store)
    await writeOne(store, anAdvance(leased, [aRecord({ key: 'charge' })], 'running'))
    const before = await everythingOf(leased.runId)

    const second = write(store, [anAdvance(leased, [aRecord({ key: 'charge' })], 'done', { nextSeq: 3 })])

    await expect(second).rejects.toMatchObject({ code: '23505' })
    expect(await everythingOf(leased.runId)).toEqual(before)
  })

  test('may be tried many times before', async () => {
    await startRun(store)
    let leased = await leaseOne(store)
    for (let n = 1; n <= 3; n += 1) {
      await writeOne(store, anAdvance(leased, aRetry('charge', 0), 'waiting'))
      await fireTimers(store.sql, store.ws, 10)
      leased = await leaseOne(store)
    }

    await writeOne(store, anAdvance(leased, [aRecord({ key: 'charge' })], 'done'))

    expect((await journalOf(store, leased.runId)).map(({ line }) => line)).toEqual([
      ...Array.from({ length: 3 }, () => ['step_retrying charge', 'step_due charge']).flat(),
      'step_completed charge',
    ])
  })

  test('that an app tries again before they were due back off anew', async () => {
    await startRun(store)
    const leased = await leaseOne(store)
    const soon = (await databaseNowMs(store)) + 1_000
    await writeOne(store, anAdvance(leased, aRetry('charge', soon), 'running'))

    await writeOne(store, anAdvance(leased, aRetry('charge', soon + 60_000), 'waiting', { nextSeq: 3 }))

    expect((await fireTimers(store.sql, store.ws, 10)).nextMs).toBeGreaterThan(50_000)
  })

  test('that are due and were tried again unasked do not stop the timers', async () => {
    await startRuns(store, 2)
    const [pushy, patient] = (await lease(store)) as [Leased, Leased]
    await write(store, [
      anAdvance(pushy, aRetry('charge', 0), 'running'),
      anAdvance(patient, aSleep('nap', 0), 'waiting'),
    ])
    await fireTimers(store.sql, store.ws, 1)
    await writeOne(store, anAdvance(pushy, aRetry('charge', 0), 'continue', { nextSeq: 3 }))

    await fireTimers(store.sql, store.ws, 10)

    expect(await inboxOf(store, patient.runId)).toEqual(['sleep_completed nap'])
    expect(await inboxOf(store, pushy.runId)).toEqual(['step_due charge'])
  })
})

test('a batch of 500 runs is one statement', async () => {
  const runs = await startRuns(store, 500)
  const leased = await lease(store, 500)

  const results = await write(
    store,
    leased.map((run, n) =>
      anAdvance(run, [aRecord({ key: 'a', data: `${n}` }), ...aWait('b')], STEPS[n % 5] ?? 'done'),
    ),
  )

  expect(results.filter(result => result.status === 'stale')).toEqual([])
  expect(runs).toHaveLength(500)
  for (const n of [0, 123, 499])
    expect((await journalOf(store, leased[n]?.runId as RunId))[0]).toEqual({ line: 'step_completed a', data: n })
})
