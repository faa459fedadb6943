import { describe, expect, test } from 'vitest'
import type { RunId, Token } from '../../src/core/ids.ts'
import { advanceAndSend } from '../../src/store/advance.ts'
import { transaction } from '../../src/store/db.ts'
import type { IngestEvent } from '../../src/store/ingest.ts'
import {
  anAdvance,
  anEvent,
  aRecord,
  aWait,
  inboxOf,
  type Leased,
  lease,
  leaseOne,
  newToken,
  parkRun,
  parkRuns,
  queueRowOf,
  send,
  someoneWaits,
  startRun,
  startRuns,
  useStore,
  VERSION,
} from './fixture.ts'

const store = useStore()

const sent = (key: string) => aRecord({ type: 'events_sent', key })

/** Every run of `leased` records that it has sent, and sends, the event of its place. */
async function sendFrom(leased: Leased[], events: IngestEvent[], step: 'running' | 'waiting' | 'done' = 'done') {
  return advanceAndSend(
    store.sql,
    store.ws,
    leased.map(one => anAdvance(one, [sent('tell')], step)),
    { version: VERSION, events, senders: events.map((_, event) => ({ item: event, event })) },
  )
}

async function storedEvents(name = 'thing'): Promise<number> {
  const [row] = await store.sql<{ count: number }[]>`
    select count(*)::int as count from stepwell.events where ws = ${store.ws} and name = ${name}`
  return row?.count ?? 0
}

describe('events that runs send', () => {
  test('are stored, start runs and wake waits in the commit that records them', async () => {
    const parked = await parkRun(store, aWait('answer'))
    await startRun(store)
    const sender = await leaseOne(store)

    const results = await sendFrom([sender], [anEvent({ starts: ['greet'] })])

    expect(results?.[0]?.status).toBe('ok')
    expect(await storedEvents()).toBe(1)
    expect(await inboxOf(store, parked)).toEqual(['wait_matched answer'])
    expect(await lease(store)).toHaveLength(2)
  })

  test('of a lost lease are not accepted, while others of the batch are', async () => {
    const runs = await startRuns(store, 2)
    const leased = await lease(store)
    const [stale, valid] = leased as [Leased, Leased]

    const results = await sendFrom(
      [{ ...stale, token: '1' as Token }, valid],
      [anEvent({ id: 'a' }), anEvent({ id: 'b' })],
    )

    expect(results?.map(result => result.status)).toEqual(['stale', 'ok'])
    expect(await storedEvents()).toBe(1)
    expect(runs).toContain(stale.runId)
    // its id is free for the run that sends it when the turn is repeated
    expect((await send(store, [anEvent({ id: 'a' }), anEvent({ id: 'b' })])).known).toEqual(new Map([[1, []]]))
  })

  test('of a lost lease leave no trace in the queue', async () => {
    const parked = await parkRun(store, aWait('answer'))
    await startRun(store)
    const sender = await leaseOne(store)

    await sendFrom([{ ...sender, token: newToken() }], [anEvent()])

    expect(await queueRowOf(store, parked)).toBeNull()
    expect(await inboxOf(store, parked)).toEqual([])
  })

  test('are accepted when one of two runs that send the same one has lost its lease', async () => {
    await startRuns(store, 2)
    const [stale, valid] = (await lease(store)) as [Leased, Leased]

    await advanceAndSend(
      store.sql,
      store.ws,
      [anAdvance({ ...stale, token: newToken() }, [sent('tell')], 'done'), anAdvance(valid, [sent('tell')], 'done')],
      {
        version: VERSION,
        events: [anEvent({ id: 'shared' })],
        senders: [
          { item: 0, event: 0 },
          { item: 1, event: 0 },
        ],
      },
    )

    expect(await storedEvents()).toBe(1)
  })

  test('that were sent before are recorded and not accepted again', async () => {
    await send(store, [anEvent({ id: 'once' })])
    await startRun(store)
    const sender = await leaseOne(store)

    const results = await sendFrom([sender], [anEvent({ id: 'once', starts: ['greet'] })])

    expect(results?.[0]?.status).toBe('ok')
    expect(await storedEvents()).toBe(1)
    expect(await lease(store)).toEqual([])
  })

  test('reach a wait of the run that sends them, opened in the same report', async () => {
    await startRun(store)
    const sender = await leaseOne(store)

    const results = await advanceAndSend(
      store.sql,
      store.ws,
      [anAdvance(sender, [...aWait('echo'), sent('tell')], 'waiting')],
      { version: VERSION, events: [anEvent()], senders: [{ item: 0, event: 0 }] },
    )

    expect(results?.[0]?.status).toBe('ok')
    expect((await leaseOne(store)).journal.map(entry => entry.type)).toContain('wait_matched')
  })

  test('are computed anew when the workspace has changed: nothing is written', async () => {
    await startRun(store)
    const sender = await leaseOne(store)

    const results = await advanceAndSend(store.sql, store.ws, [anAdvance(sender, [sent('tell')], 'done')], {
      version: '0',
      events: [anEvent({ id: 'early' })],
      senders: [{ item: 0, event: 0 }],
    })

    expect(results).toBeNull()
    expect(await storedEvents()).toBe(0)
    expect((await queueRowOf(store, sender.runId))?.owner).toBe(store.worker)
    expect((await send(store, [anEvent({ id: 'early' })])).known.size).toBe(0)
  })

  test('to more waits than one commit wakes become a fan-out', async () => {
    const parked = await parkRuns(store, 1_001, () => aWait('answer'))
    await startRun(store)
    const sender = await leaseOne(store)

    await sendFrom([sender], [anEvent()])

    expect(await queueRowOf(store, parked[0] as RunId)).toBeNull()
    const [row] = await store.sql`select count(*)::int as count from stepwell.fanouts where ws = ${store.ws}`
    expect(row?.count).toBe(1)
    await store.sql`delete from stepwell.fanouts where ws = ${store.ws}`
    await store.sql`delete from stepwell.event_keys where ws = ${store.ws}`
  })
})

test('a run that sends to an older one never deadlocks with events for both', async () => {
  const [older, younger] = (await parkRuns(store, 2, () => aWait('answer', { event: 'both' }))) as [RunId, RunId]
  await store.sql`insert into stepwell.queue (ws, run_id, ready_at) values (${store.ws}, ${younger}, now())`
  const sender = await leaseOne(store)
  expect(sender.runId).toBe(younger)

  // Somebody else holds the older one; an event for both waits behind him with nothing but what comes before.
  const { waiting, sending } = await transaction(store.connection, async tx => {
    await tx`select from stepwell.runs where ws = ${store.ws} and id = ${older}`
    await tx`insert into stepwell.queue (ws, run_id, ready_at) values (${store.ws}, ${older}, now())`
    await tx`delete from stepwell.queue where ws = ${store.ws} and run_id = ${older}`
    const waiting = send(store, [anEvent({ name: 'both' })])
    await someoneWaits(store)
    const event = anEvent({ name: 'both' })
    const sending = advanceAndSend(store.sql, store.ws, [anAdvance(sender, [sent('tell')], 'waiting')], {
      version: VERSION,
      events: [event],
      senders: [{ item: 0, event: 0 }],
    })
    await someoneWaits(store, 2)
    return { waiting, sending }
  })

  await Promise.all([waiting, sending])
  expect(await inboxOf(store, older)).toEqual(['wait_matched answer'])
})
