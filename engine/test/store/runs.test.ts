import { decodeId, type RunState, type RunView } from '@stepwell/protocol'
import { describe, expect, test } from 'vitest'
import type { RunId, WorkspaceId } from '../../src/core/ids.ts'
import { findRun, listRuns, readJournal } from '../../src/store/runs.ts'
import {
  anAdvance,
  anEvent,
  aRecord,
  aRetry,
  aSettle,
  aSleep,
  aWait,
  databaseNowMs,
  lease,
  leaseOne,
  newUuid,
  parkRun,
  send,
  startRun,
  startRuns,
  useStore,
  writeOne,
} from './fixture.ts'

const store = useStore()

type Page = Parameters<typeof listRuns>[1]

async function list(page: Partial<Page> = {}): Promise<RunView[]> {
  return listRuns(store.sql, {
    ws: store.ws,
    limit: 100,
    before: null,
    state: null,
    function: null,
    tag: null,
    ...page,
  })
}

function idsOf(views: RunView[]): RunId[] {
  return views.map(view => decodeId('run', view.id) as RunId)
}

/** One run in each state, oldest first. */
async function aRunInEachState(): Promise<Map<RunState, RunId>> {
  const runs = new Map<RunState, RunId>()
  for (const state of ['completed', 'failed', 'waiting', 'running', 'queued'] as const) {
    const run = await startRun(store)
    runs.set(state, run)
    if (state === 'queued') continue
    const leased = await leaseOne(store)
    if (state === 'waiting') await writeOne(store, anAdvance(leased, aWait('go'), 'waiting'))
    if (state === 'completed') await writeOne(store, anAdvance(leased, [], 'done'))
    if (state === 'failed')
      await writeOne(
        store,
        anAdvance(leased, [], {
          ...aSettle('done'),
          state: 'failed',
          output: null,
          error: '{"name":"E","message":"m"}',
        } as never),
      )
  }
  return runs
}

describe('a list of runs', () => {
  test('has live and finished ones, newest first', async () => {
    const runs = await aRunInEachState()

    const views = await list()

    expect(idsOf(views)).toEqual([...runs.values()].reverse())
    expect(views.map(view => view.state)).toEqual(['queued', 'running', 'waiting', 'failed', 'completed'])
  })

  test.each(['completed', 'failed', 'waiting', 'running', 'queued'] as const)(
    'can be of those that are %s',
    async state => {
      const runs = await aRunInEachState()

      expect(idsOf(await list({ state }))).toEqual([runs.get(state)])
    },
  )

  test('comes in pages that join without a gap', async () => {
    const runs: RunId[] = []
    for (let n = 0; n < 13; n += 1) {
      runs.push(await startRun(store))
      if (n % 2 === 0) await writeOne(store, anAdvance(await leaseOne(store), [], 'done'))
      else if (n % 4 === 1) await writeOne(store, anAdvance(await leaseOne(store), aWait('go'), 'waiting'))
      else await lease(store)
    }

    const pages: RunId[][] = []
    for (let before: RunId | null = null; ; ) {
      const page = idsOf(await list({ limit: 5, before }))
      if (page.length === 0) break
      pages.push(page)
      before = page.at(-1) ?? null
    }

    expect(pages.map(page => page.length)).toEqual([5, 5, 3])
    expect(pages.flat()).toEqual([...runs].reverse())
  })

  test('comes in pages of one state too', async () => {
    const runs = await startRuns(store, 7)
    const [newest] = [...runs].sort().reverse() as [RunId]

    const first = idsOf(await list({ limit: 3, state: 'queued' }))
    const rest = idsOf(await list({ limit: 9, state: 'queued', before: first.at(-1) ?? null }))

    expect(first[0]).toBe(newest)
    expect([...first, ...rest]).toEqual([...runs].sort().reverse())
  })

  test('can be of one function, and never has runs of another workspace', async () => {
    await startRuns(store, 2, 'other')
    const [run] = await startRuns(store, 1, 'mine')

    expect(idsOf(await list({ function: 'mine' }))).toEqual([run])
    expect(await list({ ws: (store.ws + 1_000) as WorkspaceId })).toEqual([])
  })
})

describe('one run', () => {
  test('that is not there is null', async () => {
    expect(await findRun(store.sql, store.ws, newUuid() as RunId)).toBeNull()
    expect(await readJournal(store.sql, { ws: store.ws, runId: newUuid() as RunId, after: 0, limit: 10 })).toBeNull()
  })

  test('of another workspace is null', async () => {
    const run = await startRun(store)

    expect(await findRun(store.sql, (store.ws + 1_000) as WorkspaceId, run)).toBeNull()
  })

  test('says what it waits for, in the order in which it began to', async () => {
    const dueAtMs = (await databaseNowMs(store)) + 3_600_000
    const run = await parkRun(store, [
      ...aSleep('nap', dueAtMs),
      ...aWait('approval', { event: 'approved' }),
      ...aRetry('charge', dueAtMs),
    ])

    const view = await findRun(store.sql, store.ws, run)

    const until = new Date(Math.floor(dueAtMs)).toISOString().slice(0, -5)
    expect(view).toMatchObject({ state: 'waiting', attempts: 1, output: null, finishedAt: null })
    expect(view?.waitingFor).toMatch(
      new RegExp(
        `^Sleeping in "nap" until ${until}.* Waiting in "approval" for the event "approved"\\. Step "charge" failed`,
      ),
    )
  })

  test('tells about an app that does not answer', async () => {
    const run = await startRun(store)
    await writeOne(store, anAdvance(await leaseOne(store), [], 'trouble'))

    const view = await findRun(store.sql, store.ws, run)

    expect(view?.waitingFor).toMatch(/^Nobody there\. Tried once since 2026-03-01T12:00:00.000Z\. Next try at /)
  })

  test('that has ended waits for nothing', async () => {
    const run = await startRun(store)
    await writeOne(store, anAdvance(await leaseOne(store), [], 'done'))

    expect(await findRun(store.sql, store.ws, run)).toMatchObject({ state: 'completed', output: 1, waitingFor: null })
  })
})

test('a journal is read in pages, of live and of finished runs', async () => {
  const run = await startRun(store)
  const leased = await leaseOne(store)
  await writeOne(
    store,
    anAdvance(
      leased,
      [1, 2, 3, 4].map(n => aRecord({ key: `${n}`, data: `${n}`, saw: n })),
      'running',
    ),
  )
  const live = await readJournal(store.sql, { ws: store.ws, runId: run, after: 0, limit: 3 })
  await writeOne(store, anAdvance(leased, [], 'done', { nextSeq: 6 }))

  const rest = await readJournal(store.sql, { ws: store.ws, runId: run, after: 3, limit: 3 })

  expect(live?.entries.map(entry => [entry.seq, entry.type])).toEqual([
    [1, 'run_started'],
    [2, 'step_completed'],
    [3, 'step_completed'],
  ])
  expect(rest?.entries).toMatchObject([
    { seq: 4, turn: 1, key: '3', saw: 3, data: 3 },
    { seq: 5, turn: 1, key: '4', saw: 4, data: 4 },
  ])
})

test('a run that moves from live to finished is listed once at any time', async () => {
  const runs = new Set(await startRuns(store, 40))
  let isOver = false
  const seen: number[] = []

  const watching = (async () => {
    while (!isOver) {
      const ids = idsOf(await list())
      seen.push(new Set(ids).size === ids.length ? ids.length : -1)
    }
  })()
  while (runs.size > 0) {
    const leased = (await lease(store, 1))[0] ?? expect.fail('nothing runnable')
    await writeOne(store, anAdvance(leased, [], 'done'))
    runs.delete(leased.runId)
  }
  isOver = true
  await watching

  expect(new Set(seen)).toEqual(new Set([40]))
  await send(store, [anEvent()])
})
