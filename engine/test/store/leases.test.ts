import { describe, expect, test } from 'vitest'
import type { RunId, WorkerId, WorkspaceId } from '../../src/core/ids.ts'
import { transaction } from '../../src/store/db.ts'
import { ingest } from '../../src/store/ingest.ts'
import {
  findHolder,
  findLeased,
  findOrphans,
  forgetOtherWorkers,
  forgetWorkers,
  giveBack,
  heartbeat,
  reap,
  release,
} from '../../src/store/queue.ts'
import {
  anAdvance,
  anEvent,
  aRecord,
  aWait,
  lease,
  leaseOne,
  newToken,
  newUuid,
  parkRun,
  queueRowOf,
  send,
  startRun,
  startRuns,
  useStore,
  VERSION,
  write,
  writeOne,
} from './fixture.ts'

const store = useStore()
const LEASE_MS = 10_000

async function aWorker(silentMs = 0): Promise<WorkerId> {
  const worker = newUuid() as WorkerId
  await heartbeat(store.sql, worker, 'test')
  await store.sql`
    update stepwell.workers set heartbeat_at = heartbeat_at - make_interval(secs => ${silentMs}::float8 / 1000)
    where id = ${worker}`
  return worker
}

describe('the reaper', () => {
  test('frees the runs of a worker that is silent for longer than the lease, and of no other', async () => {
    const [alive, silent] = [await aWorker(LEASE_MS - 1_000), await aWorker(LEASE_MS + 1_000)]
    const [kept, freed] = (await startRuns(store, 2)) as [RunId, RunId]
    await lease(store, 1, { worker: alive })
    await lease(store, 1, { worker: silent })

    expect(await reap(store.sql, store.ws, LEASE_MS)).toBe(1)

    expect(await queueRowOf(store, kept)).toEqual({ owner: alive, again: false })
    expect(await queueRowOf(store, freed)).toEqual({ owner: null, again: false })
    expect(await reap(store.sql, store.ws, LEASE_MS)).toBe(0)
  })

  test('frees the runs of a worker that nobody knows', async () => {
    const run = await startRun(store)
    await lease(store, 1, { worker: newUuid() as WorkerId })

    expect(await findLeased(store.sql)).toContain(store.ws)
    expect(await reap(store.sql, store.ws, LEASE_MS)).toBe(1)
    expect((await leaseOne(store)).runId).toBe(run)
  })

  test('leaves the runs of other workspaces', async () => {
    const other = (store.ws + 1_000) as WorkspaceId
    await startRun(store)
    await lease(store, 1, { worker: newUuid() as WorkerId })

    expect(await reap(store.sql, other, LEASE_MS)).toBe(0)
    expect(await reap(store.sql, store.ws, LEASE_MS)).toBe(1)
  })

  test('does not wait for a run that somebody is changing', async () => {
    const silent = newUuid() as WorkerId
    const [busy, idle] = (await startRuns(store, 2)) as [RunId, RunId]
    const leased = await lease(store, 2, { worker: silent })

    const freed = await transaction(store.connection, async tx => {
      const [item] = leased.filter(run => run.runId === busy)
      await writeOne(store, anAdvance(item ?? expect.fail(), [], 'running'), tx)
      return reap(store.sql, store.ws, LEASE_MS)
    })

    expect(freed).toBe(1)
    expect((await queueRowOf(store, idle))?.owner).toBeNull()
    expect((await queueRowOf(store, busy))?.owner).toBe(silent)
  })

  test('ends the right of the one who comes back from a long sleep', async () => {
    const run = await startRun(store)
    const [asleep] = await lease(store, 1, { worker: newUuid() as WorkerId })
    await reap(store.sql, store.ws, LEASE_MS)
    const successor = await leaseOne(store)

    const [late] = await write(store, [anAdvance(asleep ?? expect.fail(), [aRecord({ key: 'late' })], 'done')])
    await writeOne(store, anAdvance(successor, [aRecord({ key: 'first' })], 'running'))

    expect(late).toEqual({ status: 'stale' })
    expect((await queueRowOf(store, run))?.owner).toBe(store.worker)
  })

  test('keeps what has arrived for the one who comes next', async () => {
    await parkRun(store, aWait('go'))
    await store.sql`insert into stepwell.queue (ws, run_id, ready_at) select ws, id, now() from stepwell.runs where ws = ${store.ws}`
    await lease(store, 1, { worker: newUuid() as WorkerId })
    await send(store, [anEvent()])

    await reap(store.sql, store.ws, LEASE_MS)

    expect((await leaseOne(store)).journal.at(-1)?.type).toBe('wait_matched')
  })
})

describe('a worker', () => {
  test('hears the clock of the database with its heartbeat', async () => {
    const worker = newUuid() as WorkerId
    const first = await heartbeat(store.sql, worker, 'one')
    const second = await heartbeat(store.sql, worker, 'two')

    expect(second).toBeGreaterThan(first)
    expect(Math.abs(first - Date.now())).toBeLessThan(5_000)
  })

  test('that ends hands back all it holds, in every workspace, and is forgotten', async () => {
    const worker = await aWorker()
    const other = (store.ws + 1_000) as WorkspaceId
    await store.sql`insert into stepwell.workspaces (ws, name) values (${other}, ${`ws-${other}`})`
    await ingest(store.sql, other, VERSION, [anEvent({ starts: ['greet'] })])
    await startRuns(store, 3)
    await lease({ ...store, ws: other }, 1, { worker })
    await lease(store, 2, { worker })
    await lease(store, 1)

    expect(await release(store.sql, worker)).toBe(3)

    expect(await lease(store)).toHaveLength(2)
    const [row] = await store.sql`select from stepwell.workers where id = ${worker}`
    expect(row).toBeUndefined()
  })

  test('that is alone makes all other leases void', async () => {
    const [me, before] = [await aWorker(), await aWorker()]
    const run = await startRun(store)
    await lease(store, 1, { worker: before })

    await forgetOtherWorkers(store.sql, me)

    expect(await reap(store.sql, store.ws, LEASE_MS)).toBe(1)
    expect((await leaseOne(store)).runId).toBe(run)
  })

  test('is remembered while it holds something, however silent it is', async () => {
    const [idle, busy] = [await aWorker(3_600_000), await aWorker(3_600_000)]
    await startRun(store)
    await lease(store, 1, { worker: busy })

    await forgetWorkers(store.sql, 60_000)

    const rows = await store.sql<{ id: string }[]>`select id from stepwell.workers where id in (${idle}, ${busy})`
    expect(rows.map(row => row.id)).toEqual([busy])
  })
})

describe('a lease that its worker does not know', () => {
  test('is found when it is old enough', async () => {
    const worker = await aWorker()
    await startRuns(store, 2)
    const [old] = await lease(store, 1, { worker })
    await store.sql`update stepwell.queue set claimed_at = claimed_at - interval '1 minute' where owner = ${worker}`
    await lease(store, 1, { worker })

    const orphans = await findOrphans(store.sql, worker)

    expect(orphans).toEqual([{ ws: store.ws, runId: old?.runId, token: old?.token }])
  })

  test('is given back once', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    expect(await findHolder(store.sql, store.ws, run, leased.token)).toBe(store.worker)

    await giveBack(store.sql, store.ws, run, leased.token)
    const successor = await leaseOne(store)
    await giveBack(store.sql, store.ws, run, leased.token)

    expect(await findHolder(store.sql, store.ws, run, leased.token)).toBeNull()
    expect(await findHolder(store.sql, store.ws, run, successor.token)).toBe(store.worker)
    expect(await findHolder(store.sql, store.ws, run, newToken())).toBeNull()
  })
})
