import { expect, test } from 'vitest'
import type { WorkspaceId } from '../../src/core/ids.ts'
import { giveBack } from '../../src/store/queue.ts'
import { saveApp } from '../../src/store/workspaces.ts'
import { Catalogs } from '../../src/usecases/catalogs.ts'
import { claimRuns, type Leased } from '../../src/usecases/claim-runs.ts'
import { HeldRuns } from '../../src/usecases/held-runs.ts'
import { LowWater } from '../../src/usecases/low-water.ts'
import { createSendEvents } from '../../src/usecases/send-events.ts'
import { newUuid, queueRowOf, useStore } from '../store/fixture.ts'

const store = useStore()

/** An engine's end of accepting events, with `room` places for runs that start at once. */
async function aSender(room: number, functions: Record<string, string> = { greet: 'thing' }) {
  const list = Object.entries(functions).map(([id, event]) => ({ id, triggers: [{ event }] }))
  await saveApp(store.sql, store.ws, { url: 'http://127.0.0.1:1/', functions: list })
  const catalogs = new Catalogs(store.sql)
  const held = new HeldRuns()
  const woken: WorkspaceId[] = []
  const filled: { reserved: number; leased: Leased[] }[] = []
  let reserved = 0
  const deps = {
    sql: store.sql,
    catalogs,
    held,
    newUuid,
    nowMs: Date.now,
    worker: store.worker,
    wake: (ws: WorkspaceId) => void woken.push(ws),
    wakeAt: () => {},
    places: {
      reserve(wanted: number) {
        const places = Math.min(wanted, room)
        reserved += places
        return places
      },
      fill(places: number, leased: Leased[]) {
        reserved -= places
        filled.push({ reserved: places, leased })
      },
    },
  }
  const send = createSendEvents(deps)
  return {
    send: (...names: { name: string; id?: string; data?: string }[]) => send(store.ws, names),
    catalogs,
    held,
    woken,
    filled,
    started: () => filled.flatMap(({ leased }) => leased.map(({ run }) => run.wireId)),
    reserved: () => reserved,
  }
}

test('runs for which there is room start at once, and are held', async () => {
  const sender = await aSender(10, { greet: 'thing', count: 'thing' })

  const { events } = await sender.send({ name: 'thing' })

  expect(sender.started()).toEqual(events[0]?.runs)
  expect(sender.filled).toMatchObject([{ reserved: 2 }])
  expect(sender.reserved()).toBe(0)
  expect(sender.held.size).toBe(2)
  for (const { run } of sender.filled.flatMap(({ leased }) => leased)) {
    expect(sender.held.has(run.runId, run.token)).toBe(true)
    expect(await queueRowOf(store, run.runId)).toEqual({ owner: store.worker, again: false })
  }
  expect(sender.woken).toEqual([])
})

test('the others are left to claims, which are told', async () => {
  const sender = await aSender(1)

  const { events } = await sender.send({ name: 'thing' }, { name: 'thing' }, { name: 'thing' })

  expect(sender.started()).toEqual(events[0]?.runs)
  expect(sender.woken).toEqual([store.ws])
})

test('what a claim would read is what a run that starts at once has', async () => {
  const sender = await aSender(1)
  await sender.send({ name: 'thing', id: 'own "1" ü', data: 'a "b" \u2028 \\' })
  const [fresh = expect.fail()] = sender.filled.flatMap(({ leased }) => leased)
  await giveBack(store.sql, store.ws, fresh.run.runId, fresh.run.token)

  const [claimed = expect.fail()] = await claimRuns(
    {
      sql: store.sql,
      catalogs: sender.catalogs,
      held: new HeldRuns(),
      worker: store.worker,
      marks: new LowWater(),
      nowMs: Date.now,
    },
    store.ws,
    1,
  )

  expect(fresh.journal).toBe(claimed.journal)
  const { snapshot, runId, wireId, turn, nextSeq, startedAtMs } = claimed.run
  expect(fresh.run).toMatchObject({ runId, wireId, turn, nextSeq, startedAtMs, function: 'greet' })
  expect({ ...fresh.run.snapshot, nowMs: 0 }).toEqual({ ...snapshot, nowMs: 0 })
})

test('an event that was accepted before starts nothing, and its place is given back', async () => {
  const sender = await aSender(10)
  const first = await sender.send({ name: 'thing', id: 'twice' })

  const second = await sender.send({ name: 'thing', id: 'twice' }, { name: 'thing', id: 'new' })

  expect(second.events[0]).toEqual(first.events[0])
  expect(sender.started()).toEqual([...(first.events[0]?.runs ?? []), ...(second.events[1]?.runs ?? [])])
  expect(sender.reserved()).toBe(0)
})

test('a catalog that is older than the database is read again; nothing starts twice', async () => {
  const sender = await aSender(10)
  await sender.send({ name: 'thing' })
  await saveApp(store.sql, store.ws, {
    url: 'http://127.0.0.1:1/',
    functions: [{ id: 'other', triggers: [{ event: 'thing' }] }],
  })

  const { events } = await sender.send({ name: 'thing' })

  expect(sender.filled.map(({ leased }) => leased.map(({ run }) => run.function))).toEqual([['greet'], [], ['other']])
  expect(sender.started().at(-1)).toBe(events[0]?.runs[0])
  expect(sender.reserved()).toBe(0)
})

test('places are given back when the events are not stored', async () => {
  const sender = await aSender(10)
  await sender.send({ name: 'thing' })

  // No text of Postgres holds it; the edge refuses it before.
  const sending = sender.send({ name: 'thing', id: 'a\u0000' })

  await expect(sending).rejects.toThrow()
  expect(sender.filled.at(-1)).toEqual({ reserved: 1, leased: [] })
  expect(sender.reserved()).toBe(0)
  expect(sender.held.size).toBe(1)
})

test('without room nothing is leased', async () => {
  const sender = await aSender(0)

  await sender.send({ name: 'thing' })

  expect(sender.started()).toEqual([])
  expect(sender.woken).toEqual([store.ws])
})
