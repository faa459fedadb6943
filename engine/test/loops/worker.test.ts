import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { WorkspaceId } from '../../src/core/ids.ts'
import { createLog } from '../../src/log.ts'
import { startWorker, type Worker } from '../../src/loops/worker.ts'
import type { Leased } from '../../src/usecases/claim-runs.ts'

const WS = 1 as WorkspaceId
const OTHER = 2 as WorkspaceId

let workers: Worker[] = []
beforeEach(() => vi.useFakeTimers())
afterEach(async () => {
  const stopping = Promise.all(workers.map(worker => worker.stopClaiming()))
  await vi.advanceTimersByTimeAsync(2_000)
  await stopping
  workers = []
  vi.useRealTimers()
})

/** As much of a leased run as a worker looks at. */
const aLeased = (n = 0) => ({ run: { wireId: `run_${n}` } }) as Leased

interface Claim {
  ws: WorkspaceId
  limit: number
  answer: (leased: Leased[]) => void
  fail: (error: Error) => void
}

/** A worker whose claims and turns end when the test says so. */
async function aWorker(options: { capacity: number; found?: WorkspaceId[] }) {
  const claims: Claim[] = []
  const turns: { end: () => void; fail: (error: Error) => void }[] = []
  const worker = startWorker({
    log: createLog('silent'),
    capacity: options.capacity,
    findRunnable: async () => options.found?.splice(0) ?? [],
    claim: (ws, limit) =>
      new Promise((answer, fail) => {
        claims.push({ ws, limit, answer, fail })
      }),
    run: () =>
      new Promise((end, fail) => {
        turns.push({ end, fail })
      }),
  })
  workers.push(worker)
  await vi.advanceTimersByTimeAsync(0)
  return { worker, claims, turns }
}

/** How many places are free for fresh runs. They are given back. */
function freePlaces(worker: Worker): number {
  const places = worker.reserve(1_000_000)
  worker.fill(places, [])
  return places
}

const settle = () => vi.advanceTimersByTimeAsync(0)

describe('places for fresh runs', () => {
  test('are as many as are wanted and free', async () => {
    const { worker } = await aWorker({ capacity: 10 })

    const places = [worker.reserve(4), worker.reserve(4), worker.reserve(4), worker.reserve(4)]

    expect(places).toEqual([4, 4, 2, 0])
  })

  test('are not there for claims', async () => {
    const { worker, claims } = await aWorker({ capacity: 60 })
    worker.reserve(10)

    worker.wake(WS)
    await settle()

    expect(claims).toMatchObject([{ ws: WS, limit: 50 }])
    claims[0]?.answer([])
  })

  test('are not those that a claim under way may need', async () => {
    const { worker, claims, turns } = await aWorker({ capacity: 60 })
    worker.wake(WS)
    await settle()
    const [claim] = claims

    const duringClaim = freePlaces(worker)
    claim?.answer(Array.from({ length: 50 }, (_, n) => aLeased(n)))
    await settle()

    expect(claim?.limit).toBe(60)
    expect(duringClaim).toBe(0)
    expect(turns).toHaveLength(50)
    expect(freePlaces(worker)).toBe(10)
  })

  test('come back after a claim that failed, and it is made again', async () => {
    const { worker, claims } = await aWorker({ capacity: 60 })
    worker.wake(WS)
    await settle()

    claims[0]?.fail(new Error('the database is away'))
    await vi.advanceTimersByTimeAsync(1_000)
    claims[1]?.answer([])
    await settle()

    expect(claims.map(claim => claim.limit)).toEqual([60, 60])
    expect(freePlaces(worker)).toBe(60)
  })

  test('are none while older runs of the workspace may wait', async () => {
    const { worker, claims } = await aWorker({ capacity: 10 })
    worker.wake(WS)
    const beforeClaim = worker.reserve(1)
    await settle()
    claims[0]?.answer(Array.from({ length: 10 }, (_, n) => aLeased(n)))
    await settle()

    const full = worker.reserve(1)

    expect([beforeClaim, full]).toEqual([0, 0])
  })

  test('are none for a workspace of which a claim took all it could, when places become free', async () => {
    const { worker, claims, turns } = await aWorker({ capacity: 10 })
    worker.wake(WS)
    await settle()
    claims[0]?.answer(Array.from({ length: 10 }, (_, n) => aLeased(n)))
    await settle()

    turns[0]?.end()
    await settle()

    expect(worker.reserve(1)).toBe(0)
  })

  test('are none when it stops', async () => {
    const { worker } = await aWorker({ capacity: 10 })

    await worker.stopClaiming()

    expect(worker.reserve(1)).toBe(0)
  })

  test('that were not needed are given back, the others when their turns end', async () => {
    const { worker, turns } = await aWorker({ capacity: 10 })
    const places = worker.reserve(8)

    worker.fill(places, [aLeased(1), aLeased(2)])
    const whileRunning = freePlaces(worker)
    turns[0]?.end()
    turns[1]?.fail(new Error('given up'))
    await settle()

    expect(whileRunning).toBe(8)
    expect(freePlaces(worker)).toBe(10)
  })

  test('keep a worker from being idle until they are given back', async () => {
    const { worker } = await aWorker({ capacity: 10 })
    worker.reserve(1)
    let isIdle = false
    void worker.idle().then(() => {
      isIdle = true
    })
    await settle()
    const before = isIdle

    worker.fill(1, [])
    await settle()

    expect([before, isIdle]).toEqual([false, true])
  })

  test('that become free while all were taken let it claim again', async () => {
    const { worker, claims } = await aWorker({ capacity: 10 })
    worker.reserve(10)
    worker.wake(WS)
    await settle()
    const whileFull = claims.length

    worker.fill(10, [])
    await settle()

    expect(whileFull).toBe(0)
    expect(claims).toMatchObject([{ ws: WS, limit: 10 }])
    claims[0]?.answer([])
  })
})

describe('claims', () => {
  test('wait a moment for more while there is little room', async () => {
    const { worker, claims, turns } = await aWorker({ capacity: 40 })
    worker.wake(WS)
    await settle()
    claims[0]?.answer(Array.from({ length: 40 }, (_, n) => aLeased(n)))
    await settle()

    turns[0]?.end()
    await settle()
    const atOnce = claims.length
    for (const turn of turns.slice(1, 8)) turn.end()
    await vi.advanceTimersByTimeAsync(5)

    expect(atOnce).toBe(1)
    expect(claims.slice(1)).toMatchObject([{ ws: WS, limit: 8 }])
    claims[1]?.answer([])
  })

  test('do not wait when there is much room', async () => {
    const { worker, claims } = await aWorker({ capacity: 40 })
    worker.wake(WS)
    await settle()
    claims[0]?.answer([])
    await settle()

    worker.wake(WS)
    await settle()

    expect(claims.map(claim => claim.limit)).toEqual([40, 40])
    claims[1]?.answer([])
  })

  test('of a small worker do not wait when all of it is free', async () => {
    const { worker, claims } = await aWorker({ capacity: 2 })
    worker.wake(WS)
    await settle()
    claims[0]?.answer([])
    await settle()

    worker.wake(WS)
    await settle()

    expect(claims.map(claim => claim.limit)).toEqual([2, 2])
    claims[1]?.answer([])
  })

  test('take workspaces in turn', async () => {
    const { claims } = await aWorker({ capacity: 300, found: [WS, OTHER] })
    const leased = () => Array.from({ length: 100 }, (_, n) => aLeased(n))
    claims[0]?.answer(leased())
    await settle()
    claims[1]?.answer([])
    await settle()
    claims[2]?.answer([])
    await settle()

    expect(claims.map(({ ws }) => ws)).toEqual([WS, OTHER, WS])
  })
})
