import { describe, expect, test } from 'vitest'
import type { RunId, WorkerId, WorkspaceId } from '../../src/core/ids.ts'
import { open, transaction } from '../../src/store/db.ts'
import { ingest } from '../../src/store/ingest.ts'
import { claim, findHolder, findRunnable } from '../../src/store/queue.ts'
import { fireTimers } from '../../src/store/timers.ts'
import {
  anAdvance,
  anEvent,
  aRecord,
  aSleep,
  aWait,
  inboxOf,
  type Leased,
  lease,
  leaseOne,
  newToken,
  newUuid,
  parkRun,
  passTime,
  queueRowOf,
  send,
  someoneWaits,
  startRun,
  startRuns,
  useStore,
  VERSION,
  write,
  writeOne,
} from './fixture.ts'

const store = useStore()

describe('a claim', () => {
  test('takes the runs that have been runnable longest, up to its limit', async () => {
    const runs: RunId[] = []
    for (let n = 0; n < 5; n += 1) {
      const run = await startRun(store)
      await store.sql`
        update stepwell.queue set ready_at = ready_at - make_interval(mins => ${n})
        where ws = ${store.ws} and run_id = ${run}`
      runs.unshift(run)
    }

    const [first, second, third] = [await lease(store, 2), await lease(store, 2), await lease(store, 2)]

    expect([first, second, third].map(batch => batch.map(run => run.runId))).toEqual([
      runs.slice(0, 2),
      runs.slice(2, 4),
      runs.slice(4),
    ])
  })

  test('finds nothing in an empty workspace, and nothing of another', async () => {
    const other = (store.ws + 1_000) as WorkspaceId
    await store.sql`insert into stepwell.workspaces (ws, name) values (${other}, ${`ws-${other}`})`
    await ingest(store.sql, other, VERSION, [anEvent({ starts: ['greet'] })])

    expect(await lease(store)).toEqual([])
    expect(await findRunnable(store.sql)).toContain(other)
    expect(await findRunnable(store.sql)).not.toContain(store.ws)
    expect(await claim(store.sql, other, 10, store.worker, newToken())).toHaveLength(1)
  })

  test('tells the workspace version, the turn, and the clock to the microsecond', async () => {
    await startRun(store)

    const leased = await leaseOne(store)

    expect(leased).toMatchObject({ version: VERSION, turn: 1, generation: 1, trouble: null, function: 'greet' })
    expect(Math.abs(leased.nowMs - Date.now())).toBeLessThan(5_000)
    expect(leased.readyAtMs).toBeLessThanOrEqual(leased.nowMs)
  })

  test('passes over what another claim is taking, without waiting', async () => {
    const runs = await startRuns(store, 4)

    const other = await transaction(store.connection, async tx => {
      await lease(store, 2, { sql: tx })
      return lease(store, 4)
    })

    expect(other.map(run => run.runId)).toEqual(runs.slice(2))
  })

  test('never gives a run to two of several workers', async () => {
    const runs = new Set<RunId>(await startRuns(store, 1_000))
    const clients = Array.from({ length: 4 }, () => open(store.connection, 1))

    const taken = await Promise.all(
      clients.map(async sql => {
        const mine: RunId[] = []
        const worker = newUuid() as WorkerId
        for (;;) {
          const batch = await lease(store, 7, { sql, worker })
          if (batch.length === 0) return mine
          mine.push(...batch.map(run => run.runId))
        }
      }),
    )

    await Promise.all(clients.map(sql => sql.end()))
    expect(taken.flat()).toHaveLength(1_000)
    expect(new Set(taken.flat())).toEqual(runs)
    expect(taken.filter(mine => mine.length > 0).length).toBeGreaterThan(1)
  })

  test('that is undone leaves the run to the next one', async () => {
    const run = await startRun(store)
    let lost: Leased | undefined
    await transaction(store.connection, async tx => {
      lost = (await lease(store, 1, { sql: tx }))[0]
      throw new Error('the server crashed before the claim was on disk')
    }).catch(() => {})

    const [result] = await write(store, [anAdvance(lost ?? expect.fail(), [aRecord({ key: 'charge' })], 'done')])

    expect(result).toEqual({ status: 'stale' })
    expect((await leaseOne(store)).runId).toBe(run)
  })

  test('does not wait for its commit to be on disk, and other statements of the connection do', async () => {
    const run = await startRun(store)

    const [during, after] = await transaction(store.connection, async tx => {
      const before = await tx`show synchronous_commit`
      await lease(store, 1, { sql: tx })
      return [await tx`show synchronous_commit`, before]
    })

    expect(during?.[0]?.synchronousCommit).toBe('off')
    expect(after?.[0]?.synchronousCommit).toBe('on')
    expect(await findHolder(store.sql, store.ws, run, '1' as Leased['token'])).toBeNull()
  })
})

describe('what has arrived for a run', () => {
  test('is in its journal when it is claimed, in order of arrival and with dense seq', async () => {
    const now = (await store.sql`select (extract(epoch from now()) * 1000)::float8 as ms`)[0]?.ms as number
    const run = await parkRun(store, [
      ...aSleep('long', now + 1_000),
      ...aSleep('short', now),
      ...aWait('go'),
      ...aWait('on'),
    ])
    await send(store, [anEvent({ data: 'go' })])
    await passTime(store, 5_000)
    await fireTimers(store.sql, store.ws, 10)
    await send(store, [anEvent({ data: 'on' })])

    const leased = await leaseOne(store)

    expect(leased.turn).toBe(2)
    expect(leased.journal.map(({ seq, turn, type, key }) => `${seq} ${turn} ${type} ${key}`)).toEqual([
      '1 1 run_started null',
      '2 1 sleep_started long',
      '3 1 sleep_started short',
      '4 1 wait_opened go',
      '5 1 wait_opened on',
      '6 2 wait_matched go',
      '7 2 sleep_completed short',
      '8 2 sleep_completed long',
      '9 2 wait_matched on',
    ])
    expect(await inboxOf(store, run)).toEqual([])
  })

  test('of an earlier generation is dropped', async () => {
    const run = await parkRun(store, aWait('go'))
    await send(store, [anEvent()])
    await store.sql`update stepwell.runs set generation = 2 where ws = ${store.ws} and id = ${run}`
    await store.sql`
      insert into stepwell.journal (ws, run_id, generation, seq, turn, at, type, settles)
      values (${store.ws}, ${run}, 2, 1, 1, now(), 'run_started', false)`

    const leased = await leaseOne(store)

    expect(leased.journal.map(entry => entry.type)).toEqual(['run_started'])
    expect(await inboxOf(store, run)).toEqual([])
  })
})

describe('what arrives while a run is leased', () => {
  async function leaseWithWait(): Promise<Leased> {
    await parkRun(store, aWait('go'))
    await store.sql`
      insert into stepwell.queue (ws, run_id, ready_at) select ws, id, now() from stepwell.runs where ws = ${store.ws}`
    return leaseOne(store)
  }

  test('is delivered with the next report, before what that brings', async () => {
    const leased = await leaseWithWait()
    await send(store, [anEvent()])
    expect(await queueRowOf(store, leased.runId)).toEqual({ owner: store.worker, again: true })

    const result = await writeOne(store, anAdvance(leased, [aRecord({ key: 'charge' })], 'running'))

    expect(result).toMatchObject({ firstSeq: 4, delivered: [{ seq: 3, type: 'wait_matched', key: 'go' }] })
    expect(await queueRowOf(store, leased.runId)).toEqual({ owner: store.worker, again: false })
  })

  test.each(['waiting', 'continue'] as const)('makes a run that settles as %s runnable at once', async step => {
    const leased = await leaseWithWait()
    await send(store, [anEvent()])

    const result = await writeOne(store, anAdvance(leased, [aRecord({ key: 'charge' })], step))

    expect(result).toMatchObject({ status: 'requeued', delivered: [] })
    expect((await leaseOne(store)).journal.map(entry => entry.type).slice(2)).toEqual([
      'step_completed',
      'wait_matched',
    ])
  })

  test('waits with a run whose app does not answer, and comes with the turn that is sent again', async () => {
    const leased = await leaseWithWait()
    await send(store, [anEvent()])

    await writeOne(store, anAdvance(leased, [], 'trouble'))
    expect(await queueRowOf(store, leased.runId)).toBeNull()
    await passTime(store, 60_000)
    await fireTimers(store.sql, store.ws, 10)

    const again = await leaseOne(store)
    expect(again.turn).toBe(leased.turn)
    expect(again.journal.at(-1)).toMatchObject({ seq: 3, type: 'wait_matched' })
  })

  test('wakes a run that is being parked in that moment', async () => {
    const leased = await leaseWithWait()

    const { sending } = await transaction(store.connection, async tx => {
      await writeOne(store, anAdvance(leased, [], 'waiting'), tx)
      const sending = send(store, [anEvent()])
      await someoneWaits(store)
      return { sending }
    })
    await sending

    expect((await leaseOne(store)).journal.at(-1)?.type).toBe('wait_matched')
  })

  test('is not lost to a run that is being parked when it came a moment before', async () => {
    const leased = await leaseWithWait()

    const { parking } = await transaction(store.connection, async tx => {
      await send(store, [anEvent()], tx)
      const parking = writeOne(store, anAdvance(leased, [], 'waiting'))
      await someoneWaits(store)
      return { parking }
    })

    expect((await parking).status).toBe('requeued')
    expect((await leaseOne(store)).journal.at(-1)?.type).toBe('wait_matched')
  })
})
