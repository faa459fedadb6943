import { describe, expect, test } from 'vitest'
import type { RunId, WorkspaceId } from '../../src/core/ids.ts'
import { transaction } from '../../src/store/db.ts'
import { ingest } from '../../src/store/ingest.ts'
import { fireTimers } from '../../src/store/timers.ts'
import {
  anAdvance,
  anEvent,
  aSleep,
  aWait,
  databaseNowMs,
  inboxOf,
  journalOf,
  lease,
  leaseOne,
  parkRun,
  parkRuns,
  queueRowOf,
  send,
  someoneWaits,
  startRun,
  useStore,
  VERSION,
  write,
  writeOne,
} from './fixture.ts'

const store = useStore()

async function openWaits(run: RunId): Promise<string[]> {
  const rows = await store.sql<{ key: string }[]>`
    select key from stepwell.waits where ws = ${store.ws} and run_id = ${run} order by opened_at, ord`
  return rows.map(row => row.key)
}

/** What the run gets: `wait_matched key` and the data of its event. */
async function matchesOf(run: RunId): Promise<[string, unknown][]> {
  const rows = await store.sql<{ key: string; data: string }[]>`
    select key, data from stepwell.inbox
    where ws = ${store.ws} and run_id = ${run} and type = 'wait_matched' order by arrived_at, ord`
  return rows.map(({ key, data }) => [key, (JSON.parse(data) as { data: unknown }).data])
}

describe('an open wait', () => {
  test('is satisfied by an event with its values', async () => {
    const run = await parkRun(store, aWait('approval', { match: { id: 7, kind: 'a' } }))

    const event = anEvent({ id: 'e1', data: { kind: 'a', id: 7, more: true }, shapes: [[], ['id'], ['id', 'kind']] })
    await send(store, [event])

    expect(await queueRowOf(store, run)).toEqual({ owner: null, again: false })
    expect(await openWaits(run)).toEqual([])
    await leaseOne(store)
    expect((await journalOf(store, run)).at(-1)).toEqual({
      line: 'wait_matched approval',
      data: { id: 'e1', name: 'thing', data: { kind: 'a', id: 7, more: true }, ts: event.ts },
    })
  })

  test.each([
    ['another value', { id: 8 }, 'thing'],
    ['the value as text', { id: '7' }, 'thing'],
    ['another name', { id: 7 }, 'other'],
    ['no such path', {}, 'thing'],
  ])('is not satisfied by an event with %s', async (_name, data, name) => {
    const run = await parkRun(store, aWait('approval', { match: { id: 7 } }))

    await send(store, [anEvent({ name, data, shapes: [[], ['id']] })])

    expect(await queueRowOf(store, run)).toBeNull()
    expect(await openWaits(run)).toEqual(['approval'])
  })

  test('is not satisfied by an event of another workspace', async () => {
    const run = await parkRun(store, aWait('approval'))
    const other = (store.ws + 1_000) as WorkspaceId
    await store.sql`insert into stepwell.workspaces (ws, name) values (${other}, ${`ws-${other}`})`

    await ingest(store.sql, other, VERSION, [anEvent()])

    expect(await openWaits(run)).toEqual(['approval'])
  })

  test('and others of its run get several events in order, each one', async () => {
    const run = await parkRun(
      store,
      ['a', 'b', 'c', 'd'].flatMap(key => aWait(key)),
    )

    await send(
      store,
      [1, 2, 3].map(n => anEvent({ data: n })),
    )

    expect(await matchesOf(run)).toEqual([
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ])
    expect(await openWaits(run)).toEqual(['d'])
  })

  test('gets the event when the run has another of a different shape that was opened later', async () => {
    const run = await parkRun(store, [...aWait('mine', { match: { id: 7 } }), ...aWait('any')])
    const shapes = [[], ['id']]

    await send(store, [anEvent({ data: { id: 7 }, shapes })])
    const first = await matchesOf(run)
    await send(store, [anEvent({ data: { id: 7 }, shapes })])

    expect(first.map(([key]) => key)).toEqual(['mine'])
    expect((await matchesOf(run)).map(([key]) => key)).toEqual(['mine', 'any'])
  })

  test('gets its events in order, also when an event fits waits of several shapes', async () => {
    const run = await parkRun(store, [
      ...aWait('mine', { match: { id: 7 } }),
      ...aWait('first'),
      ...aWait('second'),
      ...aWait('mine too', { match: { id: 7 } }),
    ])
    const shapes = [[], ['id']]

    await send(
      store,
      [7, 1, 7, 3, 7].map((id, n) => anEvent({ data: { id, n }, shapes })),
    )

    expect((await matchesOf(run)).map(([key, data]) => [key, (data as { n: number }).n])).toEqual([
      ['mine', 0],
      ['first', 1],
      ['second', 2],
      ['mine too', 4],
    ])
  })

  test('of every run that waits for it gets the same event', async () => {
    const runs = await parkRuns(store, 150, () => aWait('go'))

    await send(store, [anEvent({ data: 1 }), anEvent({ data: 2 })])

    const leased = await lease(store, 1_000)
    expect(leased.map(run => run.runId).sort()).toEqual([...runs].sort())
    for (const run of leased) expect(JSON.parse(run.journal.at(-1)?.data ?? '')).toMatchObject({ data: 1 })
  })

  test('and another get two events that come at once', async () => {
    const run = await parkRun(store, [...aWait('first'), ...aWait('second')])

    // The second is being accepted while the first holds the run: it has seen both waits open.
    const { waiting } = await transaction(store.connection, async tx => {
      await send(store, [anEvent({ data: 1 })], tx)
      const waiting = send(store, [anEvent({ data: 2 })])
      await someoneWaits(store)
      return { waiting }
    })
    await waiting

    expect(await matchesOf(run)).toEqual([
      ['first', 1],
      ['second', 2],
    ])
  })

  test('that is alone gets one of two events that come at once, and its run one turn', async () => {
    const run = await parkRun(store, aWait('only'))

    const { waiting } = await transaction(store.connection, async tx => {
      await send(store, [anEvent({ data: 1 })], tx)
      const waiting = send(store, [anEvent({ data: 2 })])
      await someoneWaits(store)
      // the first turn of the run begins and ends before the second event gets its hands on it
      const { runId, journal, ...leased } = (await lease(store, 1, { sql: tx }))[0] ?? expect.fail('not runnable')
      await writeOne(store, anAdvance({ runId, journal, ...leased }, aWait('else', { event: 'else' }), 'waiting'), tx)
      return { waiting }
    })
    await waiting

    expect((await journalOf(store, run)).map(({ line }) => line)).toEqual([
      'wait_opened only',
      'wait_matched only',
      'wait_opened else',
    ])
    expect(await queueRowOf(store, run)).toBeNull()
  })
})

describe('a time-out and a match', () => {
  test('that come at once: the match wins when it was first', async () => {
    const run = await parkRun(store, aWait('approval', { dueAtMs: (await databaseNowMs(store)) - 1 }))

    const { firing } = await transaction(store.connection, async tx => {
      await send(store, [anEvent()], tx)
      const firing = fireTimers(store.sql, store.ws, 10)
      await someoneWaits(store)
      return { firing }
    })

    expect((await firing).fired).toBe(0)
    expect(await inboxOf(store, run)).toEqual(['wait_matched approval'])
  })

  test('that come at once: the time-out wins when it was first', async () => {
    const run = await parkRun(store, aWait('approval', { dueAtMs: (await databaseNowMs(store)) - 1 }))

    const { sending } = await transaction(store.connection, async tx => {
      await fireTimers(tx, store.ws, 10)
      const sending = send(store, [anEvent()])
      await someoneWaits(store)
      return { sending }
    })
    await sending

    expect(await inboxOf(store, run)).toEqual(['wait_expired approval'])
  })
})

describe('looking back', () => {
  test('finds an event that came before the wait, while the turn goes on', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    await send(store, [anEvent({ id: 'early' })])

    const result = await writeOne(store, anAdvance(leased, aWait('approval'), 'running'))

    // after what was recorded: the wait was opened, then it was satisfied
    expect(result).toMatchObject({
      status: 'ok',
      firstSeq: 2,
      delivered: [{ seq: 3, type: 'wait_matched', key: 'approval' }],
    })
    expect((await journalOf(store, run)).map(({ line }) => line)).toEqual([
      'wait_opened approval',
      'wait_matched approval',
    ])
  })

  test('makes a run runnable at once that would be parked', async () => {
    await startRun(store)
    const leased = await leaseOne(store)
    await send(store, [anEvent()])

    const result = await writeOne(store, anAdvance(leased, aWait('approval'), 'waiting'))

    expect(result).toMatchObject({ status: 'requeued', delivered: [] })
    const next = await leaseOne(store)
    expect(next.turn).toBe(2)
    expect(next.journal.map(entry => entry.type)).toEqual(['run_started', 'wait_opened', 'wait_matched'])
  })

  test.each([
    ['after', (start: ReturnType<typeof anEvent>, early: ReturnType<typeof anEvent>) => [start, early]],
    ['before', (start: ReturnType<typeof anEvent>, early: ReturnType<typeof anEvent>) => [early, start]],
  ])('finds an event that stood %s the trigger in its batch', async (_name, batch) => {
    await send(store, batch(anEvent({ name: 'start', starts: ['greet'] }), anEvent()))

    const result = await writeOne(store, anAdvance(await leaseOne(store), aWait('approval'), 'running'))

    expect(result.delivered).toMatchObject([{ type: 'wait_matched', key: 'approval' }])
  })

  test('does not find the event that started the run', async () => {
    await send(store, [anEvent({ starts: ['greet'] })])

    const result = await writeOne(store, anAdvance(await leaseOne(store), aWait('again'), 'running'))
    expect(result.delivered).toEqual([])

    await send(store, [anEvent({ data: 'second' })])
  })

  test('finds the event that started another run', async () => {
    await startRun(store)
    const leased = await leaseOne(store)
    await send(store, [anEvent({ starts: ['other'] })])

    const result = await writeOne(store, anAdvance(leased, aWait('approval'), 'running'))

    expect(result.delivered).toHaveLength(1)
  })

  test('does not find an event from before the run', async () => {
    await send(store, [anEvent()])
    const run = await parkRun(store, aWait('approval'))

    expect(await openWaits(run)).toEqual(['approval'])
    expect(await queueRowOf(store, run)).toBeNull()
  })

  test('gives the earliest first, and each event to one wait', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    for (const n of [1, 2]) await send(store, [anEvent({ data: n })])

    const result = await writeOne(store, anAdvance(leased, [...aWait('a'), ...aWait('b'), ...aWait('c')], 'running'))

    expect(result.delivered.map(({ seq, key }) => [seq, key])).toEqual([
      [5, 'a'],
      [6, 'b'],
    ])
    const data = (await journalOf(store, run)).slice(3).map(entry => (entry.data as { data: unknown }).data)
    expect(data).toEqual([1, 2])
    expect(await openWaits(run)).toEqual(['c'])
  })

  test('does not give an event again that the run has had, in its journal or in its inbox', async () => {
    await startRun(store)
    const leased = await leaseOne(store)
    await send(store, [anEvent({ data: 1 })])
    const first = await writeOne(store, anAdvance(leased, aWait('a'), 'running'))
    await writeOne(store, anAdvance(leased, aWait('b'), 'running', { nextSeq: first.firstSeq + 2 }))
    await send(store, [anEvent({ data: 2 })])

    const last = await writeOne(store, anAdvance(leased, aWait('c'), 'waiting', { nextSeq: first.firstSeq + 3 }))

    expect(last.status).toBe('requeued')
    expect(await matchesOf(leased.runId)).toEqual([['b', 2]])
    expect(await openWaits(leased.runId)).toEqual(['c'])
  })

  test('finds what waits of different shapes are about, in the order of the events', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    const shapes = [[], ['id']]
    for (const id of [2, 1]) await send(store, [anEvent({ data: { id }, shapes })])

    await writeOne(
      store,
      anAdvance(
        leased,
        [...aWait('one', { match: { id: 1 } }), ...aWait('two', { match: { id: 2 } }), ...aWait('any')],
        'running',
      ),
    )

    expect((await journalOf(store, run)).slice(3).map(({ line }) => line)).toEqual([
      'wait_matched two',
      'wait_matched one',
    ])
    expect(await openWaits(run)).toEqual(['any'])
  })
})

test('reports of many runs, their timers and events for them do not wait for each other in a circle', async () => {
  const rounds = 15
  await parkRuns(store, 60, () => Array.from({ length: 2 * rounds }, (_, n) => aWait(`${n}`, { dueAtMs: null })).flat())
  await store.sql`insert into stepwell.queue (ws, run_id, ready_at) select ws, id, now() from stepwell.runs where ws = ${store.ws}`
  const leased = await lease(store, 60)
  let delivered = 0

  for (let n = 0; n < rounds; n += 1) {
    const [, , , results] = await Promise.all([
      send(store, [anEvent()]),
      send(store, [anEvent()]),
      fireTimers(store.sql, store.ws, 100),
      write(
        store,
        // in the order that a buffer has them: any
        [...leased]
          .reverse()
          .map(run => anAdvance(run, aSleep(`nap ${n}`, 0), 'running', { nextSeq: 1_000 * (n + 1) })),
      ),
    ])
    delivered += results.length
  }

  expect(delivered).toBe(60 * rounds)
  await store.sql`delete from stepwell.journal where ws = ${store.ws}`
})

test('looking back gives waits of several shapes their earliest events, in the order in which they were opened', async () => {
  const run = await startRun(store)
  const leased = await leaseOne(store)
  const shapes = [[], ['id']]
  await send(
    store,
    [7, 1, 7, 3].map((id, n) => anEvent({ data: { id, n }, shapes })),
  )

  await writeOne(
    store,
    anAdvance(
      leased,
      [...aWait('mine', { match: { id: 7 } }), ...aWait('first'), ...aWait('second'), ...aWait('third')],
      'continue',
    ),
  )

  const got = (await matchesOf(run)).map(([key, data]) => [(data as { n: number }).n, key])
  expect(got.sort()).toEqual([
    [0, 'mine'],
    [1, 'first'],
    [2, 'second'],
    [3, 'third'],
  ])
})

test('200 waits that are registered while their event is accepted all get it', async () => {
  const [registering, accepting] = [store.sql, store.sql]
  const runs: RunId[] = []
  for (let n = 0; n < 200; n += 1) {
    const run = await startRun(store)
    runs.push(run)
    const leased = await leaseOne(store)
    const step = n % 3 === 0 ? 'running' : 'waiting'

    await Promise.all([
      pause(n % 7).then(() => writeOne(store, anAdvance(leased, aWait('go', { match: { n } }), step), registering)),
      pause(n % 5).then(() => send(store, [anEvent({ data: { n }, shapes: [['n']] })], accepting)),
    ])

    // whoever was first, the run has its event: in the journal, or in the inbox and a turn to come
    const has = [...(await inboxOf(store, run)), ...(await journalOf(store, run)).map(({ line }) => line)]
    expect(has.filter(line => line === 'wait_matched go')).toHaveLength(1)
    expect(await openWaits(run)).toEqual([])
    if (step === 'running') await writeOne(store, anAdvance(leased, [], 'done', { nextSeq: 9 }))
    else await writeOne(store, anAdvance(await leaseOne(store), [], 'done'))
  }
  expect(runs).toHaveLength(200)
})

/** A few turns of the event loop and a look at the database: not a time, a different interleaving. */
async function pause(turns: number): Promise<void> {
  for (let n = 0; n < turns; n += 1) await new Promise(resolve => setImmediate(resolve))
  if (turns % 2 === 1) await store.sql`select 1`
}
