import { encodeId, type RunView } from '@stepwell/protocol'
import { afterEach, describe, expect, test } from 'vitest'
import type { RunId, WorkspaceId } from '../../src/core/ids.ts'
import { findRun } from '../../src/store/runs.ts'
import { awaitRun, RunEnds } from '../../src/usecases/await-run.ts'
import { hold } from '../../src/usecases/claim-runs.ts'
import { HeldRuns } from '../../src/usecases/held-runs.ts'
import { anAdvance, leaseOne, newUuid, startRun, useStore, writeOne } from '../store/fixture.ts'

const store = useStore()
const LONG_MS = 60_000

let ends: RunEnds
afterEach(() => ends?.close())

function aWaiting() {
  ends = new RunEnds()
  const held = new HeldRuns()
  return {
    ends,
    held,
    wait: (runId: RunId, waitMs: number, ws = store.ws) => awaitRun({ sql: store.sql, held, ends }, ws, runId, waitMs),
  }
}

/** A run as a commit of this process would tell it. */
const aView = (runId: RunId) => ({ id: encodeId('run', runId), state: 'completed', output: 'told' }) as RunView

describe('waiting for a run', () => {
  test('that has ended gives it at once', async () => {
    const run = await startRun(store)
    await writeOne(store, anAdvance(await leaseOne(store), [], 'done'))

    const ended = await aWaiting().wait(run, LONG_MS)

    expect(ended).toMatchObject({ state: 'completed', output: 1 })
  })

  test('that is not there gives null at once', async () => {
    expect(await aWaiting().wait(newUuid() as RunId, LONG_MS)).toBeNull()
  })

  test('of another workspace gives null at once, also when it is held here', async () => {
    const run = await startRun(store)
    const { held, wait } = aWaiting()
    const leased = await leaseOne(store)
    hold(held, { ws: store.ws } as never, leased, leased.token)

    expect(await wait(run, LONG_MS, (store.ws + 1_000) as WorkspaceId)).toBeNull()
  })

  test('finds an end that another process made', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    const waiting = aWaiting().wait(run, LONG_MS)

    await writeOne(store, anAdvance(leased, [], 'done'))

    expect(await waiting).toMatchObject({ state: 'completed' })
  })

  test('is told by the commit of this process, and so are all who wait', async () => {
    const run = await startRun(store)
    const { ends, wait } = aWaiting()
    const waiting = [wait(run, LONG_MS), wait(run, LONG_MS)]
    while (!ends.isAwaited(run)) await new Promise(resolve => setImmediate(resolve))

    ends.tell(run, aView(run))
    const first = await Promise.race(waiting)
    // The other may have been looking at the database just then.
    await writeOne(store, anAdvance(await leaseOne(store), [], 'done'))

    expect(first).toEqual(aView(run))
    expect((await Promise.all(waiting)).map(view => view?.state)).toEqual(['completed', 'completed'])
    expect(ends.isAwaited(run)).toBe(false)
  })

  test('that is held here does not ask the database until the time is up', async () => {
    const run = await startRun(store)
    const { held, wait } = aWaiting()
    const leased = await leaseOne(store)
    hold(held, { ws: store.ws } as never, leased, leased.token)

    const view = await wait(run, 50)

    expect(view).toMatchObject({ state: 'running' })
  })

  test('gives the run as it is when the time is up', async () => {
    const run = await startRun(store)

    const views = await Promise.all([0, 1, 50].map(waitMs => aWaiting().wait(run, waitMs)))

    expect(views).toEqual(views.map(() => expect.objectContaining({ state: 'queued' })))
    expect(views[0]).toEqual(await findRun(store.sql, store.ws, run))
  })

  test('gives everybody the run as it is when the engine stops, and later ones at once', async () => {
    const runs = [await startRun(store), await startRun(store)]
    const { ends, wait } = aWaiting()
    const waiting = runs.map(run => wait(run, LONG_MS))
    while (!runs.every(run => ends.isAwaited(run))) await new Promise(resolve => setImmediate(resolve))

    ends.close()
    const views = [...(await Promise.all(waiting)), await wait(runs[0] as RunId, LONG_MS)]

    expect(views.map(view => view?.state)).toEqual(['queued', 'queued', 'queued'])
  })

  test('is not for more than 10,000 at once', async () => {
    const run = await startRun(store)
    const { ends, wait } = aWaiting()
    const others = Array.from({ length: 10_000 }, () => ends.wait(newUuid() as RunId, LONG_MS))

    const view = await wait(run, LONG_MS)
    ends.close()

    expect(view).toMatchObject({ state: 'queued' })
    expect(new Set(await Promise.all(others))).toEqual(new Set([null]))
  })
})

test('who waits no longer makes room again', async () => {
  const { ends } = aWaiting()
  const runs = Array.from({ length: 1_000 }, () => newUuid() as RunId)
  const [first = expect.fail(), ...others] = runs
  const waiting = runs.map(run => ends.wait(run, LONG_MS))
  const wasFull = ends.isFull

  ends.tell(first, aView(first))
  const told = await waiting[0]

  expect([wasFull, ends.isFull]).toEqual([true, false])
  expect(told).toEqual(aView(first))
  expect(others.every(run => ends.isAwaited(run))).toBe(true)
})
