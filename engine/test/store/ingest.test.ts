import type { Json } from '@stepwell/protocol'
import { describe, expect, test } from 'vitest'
import type { Catalog } from '../../src/core/catalog.ts'
import type { RunId, Token, WorkerId } from '../../src/core/ids.ts'
import { transaction } from '../../src/store/db.ts'
import { forgetEventIds, type IngestEvent, ingest } from '../../src/store/ingest.ts'
import { findOrphans, reap } from '../../src/store/queue.ts'
import { record } from '../../src/store/record.ts'
import { prepareEvents } from '../../src/usecases/send-events.ts'
import {
  anAdvance,
  anEvent,
  aRecord,
  aWait,
  type Leased,
  lease,
  leaseOne,
  newToken,
  newUuid,
  queueRowOf,
  send,
  someoneWaits,
  useStore,
  VERSION,
  write,
  writeOne,
} from './fixture.ts'

const store = useStore()

/** How many rows the workspace has, by table. */
async function counts() {
  const [row] = await store.sql<
    { events: number; runs: number; queue: number; journal: number; keys: number; ids: number }[]
  >`
    select
      (select count(*)::int from stepwell.events where ws = ${store.ws}) as events,
      (select count(*)::int from stepwell.runs where ws = ${store.ws}) as runs,
      (select count(*)::int from stepwell.queue where ws = ${store.ws}) as queue,
      (select count(*)::int from stepwell.journal where ws = ${store.ws}) as journal,
      (select count(*)::int from stepwell.event_keys where ws = ${store.ws}) as keys,
      (select count(*)::int from stepwell.event_ids where ws = ${store.ws}) as ids`
  return row
}

async function ageEventIds(hours: number): Promise<void> {
  await store.sql`update stepwell.event_ids set at = at - make_interval(hours => ${hours}) where ws = ${store.ws}`
}

test('an accepted event is stored, starts its runs, and has its keys', async () => {
  const event = anEvent({ id: 'e1', data: { a: 1 }, starts: ['one', 'two'], shapes: [[], ['a'], ['missing']] })

  await send(store, [event])

  expect(await counts()).toEqual({ events: 1, runs: 2, queue: 2, journal: 2, keys: 2, ids: 1 })
  const leased = await lease(store)
  expect(leased.map(run => run.function).sort()).toEqual(['one', 'two'])
  expect(leased[0]?.journal).toMatchObject([{ seq: 1, turn: 1, type: 'run_started', key: null }])
  expect(JSON.parse(leased[0]?.journal[0]?.data ?? '')).toEqual({
    id: 'e1',
    name: 'thing',
    data: { a: 1 },
    ts: event.ts,
  })
})

test('a batch with one event that the database refuses writes nothing', async () => {
  const good = anEvent({ id: 'good', starts: ['greet'] })
  const bad = anEvent({ id: 'bad', starts: ['greet'] })
  for (const run of bad.runs) run.id = good.runs[0]?.id ?? ''

  await expect(ingest(store.sql, store.ws, VERSION, [good, bad])).rejects.toThrow(/duplicate key/)

  expect(await counts()).toEqual({ events: 0, runs: 0, queue: 0, journal: 0, keys: 0, ids: 0 })
})

test.each([
  ['an older version', '0'],
  ['a newer version', '2'],
])('a catalog of %s writes nothing', async (_name, version) => {
  const result = await ingest(store.sql, store.ws, version, [anEvent({ id: 'x', starts: ['greet'] })])

  expect(result).toEqual({ stale: true })
  expect(await counts()).toEqual({ events: 0, runs: 0, queue: 0, journal: 0, keys: 0, ids: 0 })
})

describe('fresh leases', () => {
  async function leaseFresh(events: IngestEvent[], count: number, given: { worker?: WorkerId; token?: Token } = {}) {
    const { worker = store.worker, token = newToken() } = given
    const result = await ingest(store.sql, store.ws, VERSION, events, { worker, token, count })
    if (result.stale) throw new Error('The workspace has another version.')
    return { ...result, token }
  }

  const owners = () => store.sql<{ runId: RunId; owner: string | null; token: Token | null }[]>`
    select run_id, owner, token from stepwell.queue where ws = ${store.ws}`

  test('are those of the first runs, in the order of the events; the others are claimed', async () => {
    const events = [anEvent({ starts: ['one', 'two'] }), anEvent(), anEvent({ starts: ['three', 'four'] })]
    const runs = events.flatMap(event => event.runs.map(run => run.id))

    const { token, nowMs } = await leaseFresh(events, 3)

    const rows = await owners()
    const leased = rows.filter(row => row.owner === store.worker && row.token === token).map(row => row.runId)
    expect(leased.sort()).toEqual(runs.slice(0, 3).sort())
    expect((await lease(store)).map(run => run.runId)).toEqual(runs.slice(3))
    expect(Math.abs(nowMs - Date.now())).toBeLessThan(60_000)
  })

  test.each([
    [0, 2],
    [1, 1],
    [2, 0],
    [1_000, 0],
  ])('of %i leave %i of two runs to claims', async (count, left) => {
    await leaseFresh([anEvent({ starts: ['one', 'two'] })], count)

    expect(await lease(store)).toHaveLength(left)
  })

  test('are none for events that were accepted before', async () => {
    await send(store, [anEvent({ id: 'known', starts: ['greet'] })])
    const fresh = anEvent({ starts: ['greet'] })

    const { known, token } = await leaseFresh([anEvent({ id: 'known', starts: ['greet'] }), fresh], 2)

    expect([...known.keys()]).toEqual([0])
    expect((await owners()).filter(row => row.token === token).map(row => row.runId)).toEqual([fresh.runs[0]?.id])
    expect(await lease(store)).toHaveLength(1)
  })

  test('are valid at once', async () => {
    const event = anEvent({ starts: ['greet'] })
    const { token } = await leaseFresh([event], 1)
    const runId = event.runs[0]?.id as RunId
    const entries = [aRecord({ key: 'a' })]

    const recorded = await record(store.sql, store.ws, [{ runId, token, generation: 1, turn: 1, nextSeq: 2, entries }])

    expect(recorded).toMatchObject([{ status: 'ok' }])
  })

  test('of a worker that never says that it lives are freed, with everything in the journal', async () => {
    const worker = newUuid() as WorkerId
    const event = anEvent({ starts: ['greet'] })
    const { token } = await leaseFresh([event], 1, { worker })

    const freed = await reap(store.sql, store.ws, 10_000)
    const successor = await leaseOne(store)
    const late = await write(store, [anAdvance({ ...successor, token }, [aRecord({ key: 'late' })], 'done')])

    expect(freed).toBe(1)
    expect(successor).toMatchObject({ runId: event.runs[0]?.id, turn: 1, journal: [{ type: 'run_started' }] })
    expect(late).toEqual([{ status: 'stale' }])
  })

  test('that their worker never learnt of are found by it', async () => {
    const event = anEvent({ starts: ['greet'] })
    const { token } = await leaseFresh([event], 1)
    await store.sql`update stepwell.queue set claimed_at = claimed_at - interval '1 minute' where ws = ${store.ws}`

    const orphans = await findOrphans(store.sql, store.worker)

    expect(orphans).toEqual([{ ws: store.ws, runId: event.runs[0]?.id, token }])
  })

  test('are marked when something arrives, as any others', async () => {
    const event = anEvent({ starts: ['greet'] })
    const { token } = await leaseFresh([event], 1)
    const runId = event.runs[0]?.id as RunId
    const [row] = await store.sql<{ readyAt: Date }[]>`select ready_at from stepwell.queue where run_id = ${runId}`
    const leased = { runId, token, generation: 1, turn: 1, trouble: null, readyAtMs: row?.readyAt.getTime() ?? 0 }
    const journal = [{ seq: 1 }]
    await writeOne(store, anAdvance({ ...leased, journal } as Leased, aWait('go'), 'running'))

    await send(store, [anEvent()])

    expect(await queueRowOf(store, runId)).toEqual({ owner: store.worker, again: true })
  })
})

describe("a sender's own id", () => {
  test('is accepted once, and answered with the runs of the first time', async () => {
    const first = anEvent({ id: 'order-1', starts: ['one', 'two'] })
    await send(store, [first])

    const { known } = await send(store, [anEvent({ starts: ['three'] }), anEvent({ id: 'order-1', starts: ['one'] })])

    expect(known).toEqual(new Map([[1, first.runs.map(run => run.id)]]))
    expect(await counts()).toMatchObject({ events: 2, runs: 3, ids: 1 })
  })

  test('that started nothing is answered with no runs', async () => {
    await send(store, [anEvent({ id: 'quiet' })])

    expect((await send(store, [anEvent({ id: 'quiet' })])).known).toEqual(new Map([[0, []]]))
  })

  test('of another workspace is another id', async () => {
    await store.sql`
      insert into stepwell.event_ids (ws, own_id, run_ids, at) values (${store.ws + 1_000}, 'shared', '{}', now())`

    expect((await send(store, [anEvent({ id: 'shared' })])).known.size).toBe(0)
  })

  test('that occurs twice in a batch is one event', async () => {
    const catalog = {
      startedBy: new Map([['thing', ['greet']]]),
      functions: new Map(),
      shapes: new Map(),
      cancelShapes: new Map(),
    } as unknown as Catalog
    const texts = [{ name: 'thing', id: 'twin' }, { name: 'other' }, { name: 'thing', id: 'twin' }].map(event => ({
      event,
      data: '{}',
    }))

    const { events, positions } = prepareEvents({ newUuid, nowMs: Date.now }, catalog, texts)
    await send(store, events)

    expect(positions).toEqual([0, 1, 0])
    expect(await counts()).toMatchObject({ events: 2, runs: 1 })
  })

  test('that two senders use at once is one event, and both are told the same runs', async () => {
    const first = anEvent({ id: 'race', starts: ['greet'] })

    const { second } = await transaction(store.connection, async tx => {
      await send(store, [first], tx)
      const second = send(store, [anEvent({ id: 'race', starts: ['greet'] })])
      await someoneWaits(store)
      return { second }
    })

    expect((await second).known).toEqual(new Map([[0, [first.runs[0]?.id]]]))
    expect(await counts()).toMatchObject({ events: 1, runs: 1 })
  })

  test('is free again when the one who used it was undone', async () => {
    const undone = transaction(store.connection, async tx => {
      await send(store, [anEvent({ id: 'undone', starts: ['greet'] })], tx)
      const second = send(store, [anEvent({ id: 'undone', starts: ['greet'] })])
      await someoneWaits(store)
      // not awaited here: it waits for us
      throw Object.assign(new Error('undone'), { second })
    })

    const { second } = (await undone.catch((error: unknown) => error)) as { second: ReturnType<typeof send> }

    expect((await second).known.size).toBe(0)
    expect(await counts()).toMatchObject({ events: 1, runs: 1 })
  })

  test('starts anew after 24 hours, and is remembered anew', async () => {
    await send(store, [anEvent({ id: 'daily', starts: ['greet'] })])
    await ageEventIds(25)

    const later = anEvent({ id: 'daily', starts: ['greet'] })
    const again = await send(store, [later])
    const third = await send(store, [anEvent({ id: 'daily', starts: ['greet'] })])

    expect(again.known.size).toBe(0)
    expect(third.known).toEqual(new Map([[0, [later.runs[0]?.id]]]))
    expect(await counts()).toMatchObject({ events: 2, runs: 2 })
  })

  test('is known for 24 hours', async () => {
    await send(store, [anEvent({ id: 'daily' })])
    await ageEventIds(23)

    expect((await send(store, [anEvent({ id: 'daily' })])).known.size).toBe(1)
  })
})

describe('forgetting ids', () => {
  test('forgets those of more than 24 hours ago, as many as it is told', async () => {
    await send(
      store,
      ['a', 'b', 'c'].map(id => anEvent({ id })),
    )
    await ageEventIds(25)
    await send(store, [anEvent({ id: 'd' })])

    expect(await forgetEventIds(store.sql, store.ws, 2)).toBe(2)
    expect(await forgetEventIds(store.sql, store.ws, 2)).toBe(1)
    expect(await counts()).toMatchObject({ ids: 1 })
  })

  test('does not forget one that is being used anew', async () => {
    await send(store, [anEvent({ id: 'daily' })])
    await ageEventIds(25)

    const { forgotten } = await transaction(store.connection, async tx => {
      await send(store, [anEvent({ id: 'daily' })], tx)
      return { forgotten: await forgetEventIds(store.sql, store.ws, 10) }
    })

    expect(forgotten).toBe(0)
    expect((await send(store, [anEvent({ id: 'daily' })])).known.size).toBe(1)
  })
})

describe('payloads arrive as they were sent', () => {
  test.each<[string, Json]>([
    ['nothing', null],
    ['quotes and backslashes', { 'a"b': 'c\\"d\\\\', "it's": "'''" }],
    ['braces, commas and the word null', ['{', '}', '{null,NULL}', 'null', '', ' ', ',']],
    ['unicode', { '👩‍👩‍👧': 'žluťoučký kůň 漢字 \u{1F600} \u202e' }],
    ['a NUL and other control characters', 'a\u0000b\u0001\u001f\u007f\n\r\t'],
    ['half a surrogate pair', 'x\ud800y'],
    ['what looks like an instant or a number', ['2026-03-01T12:00:00Z', '1e400', 0.1, 1e21, -0]],
    ['a mebibyte', 'é\\"x'.repeat(200_000)],
  ])('%s', async (_name, data) => {
    await send(store, [anEvent({ id: `id "\\ 'ž${'{}'}`, data, starts: ['greet'] })])

    const leased = await leaseOne(store)
    const stored = JSON.parse(leased.journal[0]?.data ?? '') as { id: string; data: Json }
    expect(JSON.stringify(stored.data)).toBe(JSON.stringify(data))
    expect(stored.id).toBe(`id "\\ 'ž${'{}'}`)
  })
})

test('batches with the same ids in opposite order do not wait for each other in a circle', async () => {
  const ids = Array.from({ length: 50 }, (_, n) => `id-${n}`)

  const results = await Promise.all(
    Array.from({ length: 20 }, async (_, n) => {
      const order = n % 2 === 0 ? ids : [...ids].reverse()
      return send(
        store,
        order.map(id => anEvent({ id: `${Math.floor(n / 4)}-${id}`, starts: ['greet'] })),
      )
    }),
  )

  expect(results.reduce((sum, result) => sum + result.known.size, 0)).toBe(15 * ids.length)
  expect(await counts()).toMatchObject({ runs: 5 * ids.length })
})
