/* Messages that runs publish, and how those who follow find them. */
import { describe, expect, test } from 'vitest'
import type { Change } from '../../src/core/change.ts'
import type { RunId } from '../../src/core/ids.ts'
import { findHeads, readPublished } from '../../src/store/published.ts'
import {
  anAdvance,
  aRecord,
  lease,
  leaseOne,
  newToken,
  newUuid,
  startRun,
  startRuns,
  useStore,
  write,
  writeOne,
} from './fixture.ts'

const store = useStore()

/** A published message and its journal line. */
function aMessage(channel: string, data: unknown, use = 1): Change[] {
  const key = `publish:${channel}${use === 1 ? '' : `#${use}`}`
  return [
    { kind: 'publish', channel, data: JSON.stringify(data) },
    aRecord({ type: 'published', key, data: JSON.stringify({ channel }) }),
  ]
}

function read(runId: RunId, given: { after?: number; channels?: string[]; limit?: number; ws?: typeof store.ws } = {}) {
  const { after = 0, channels = null, limit = 100, ws = store.ws } = given
  return readPublished(store.sql, { ws, runId, after, channels, limit })
}

const dataOf = (page: Awaited<ReturnType<typeof read>>) => page?.messages.map(({ data }) => JSON.parse(data))

describe('messages of a run', () => {
  test('are numbered from 1 over all channels, in the order of the decision', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    const changes = [...aMessage('a', 'one'), ...aMessage('b', 'two'), ...aMessage('a', 'three', 2)]

    await writeOne(store, anAdvance(leased, changes, 'running'))
    await writeOne(store, anAdvance(leased, aMessage('b', 'four', 2), 'running', { nextSeq: 5 }))

    expect((await read(run))?.messages.map(({ seq, channel, data }) => [seq, channel, JSON.parse(data)])).toEqual([
      [1, 'a', 'one'],
      [2, 'b', 'two'],
      [3, 'a', 'three'],
      [4, 'b', 'four'],
    ])
  })

  test('are written with the rest of the report or not at all', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)

    const [result] = await write(store, [anAdvance({ ...leased, token: newToken() }, aMessage('a', 1), 'running')])

    expect(result?.status).toBe('stale')
    expect(await read(run)).toEqual({ ended: null, messages: [], head: 0 })
  })

  test('of many runs in one batch go to their own run', async () => {
    const runs = await startRuns(store, 3)
    const leased = await lease(store)
    const items = leased.map(one => anAdvance(one, [...aMessage('a', one.runId), ...aMessage('a', 2, 2)], 'running'))

    await write(store, items)

    for (const run of runs) expect(dataOf(await read(run))).toEqual([run, 2])
  })

  test('keep every character that JSON can say', async () => {
    const run = await startRun(store)
    const data = { text: 'a\u0000b\n"\\ \ud83d\udc4d \u2028', half: '\ud83d', n: 1.5, list: [null, true] }

    await writeOne(store, anAdvance(await leaseOne(store), aMessage('a "quoted" \\ channel', data), 'running'))

    const page = await read(run)
    expect(dataOf(page)).toEqual([data])
    expect(page?.messages[0]?.channel).toBe('a "quoted" \\ channel')
  })

  test('stay when the run ends, and the end is seen with the last of them', async () => {
    const run = await startRun(store)

    await writeOne(store, anAdvance(await leaseOne(store), aMessage('a', 1), 'done'))

    expect(await read(run)).toEqual({ ended: 'completed', messages: [{ seq: 1, channel: 'a', data: '1' }], head: 1 })
  })

  test('go on to be counted in the next generation', async () => {
    const run = await startRun(store)
    await writeOne(store, anAdvance(await leaseOne(store), aMessage('a', 'first'), 'next_generation'))

    await writeOne(store, anAdvance(await leaseOne(store), aMessage('a', 'second'), 'running'))

    expect((await read(run))?.messages.map(({ seq, data }) => [seq, JSON.parse(data)])).toEqual([
      [1, 'first'],
      [2, 'second'],
    ])
  })

  test('are in the partition of their run, which goes with its journal', async () => {
    const run = await startRun(store)
    await writeOne(store, anAdvance(await leaseOne(store), aMessage('a', 1), 'running'))

    const [row] = await store.sql<{ messages: string; entries: string }[]>`
      select
        (select tableoid::regclass::text from stepwell.published where ws = ${store.ws} and run_id = ${run}) as messages,
        (select tableoid::regclass::text from stepwell.journal where ws = ${store.ws} and run_id = ${run} limit 1) as entries`

    expect(row?.messages).toMatch(/^(?:stepwell\.)?published_\d{4}w\d{2}$/)
    expect(row?.messages.replace('published', 'journal')).toBe(row?.entries)
  })
})

describe('a page of messages', () => {
  test('begins after the cursor, has the channels that are asked for, and ends at the limit', async () => {
    const run = await startRun(store)
    const changes = [1, 2, 3, 4].flatMap(n => [...aMessage('a', n, n), ...aMessage('b', -n, n)])
    await writeOne(store, anAdvance(await leaseOne(store), changes, 'running'))

    expect(dataOf(await read(run, { after: 2, limit: 3 }))).toEqual([2, -2, 3])
    expect(dataOf(await read(run, { after: 2, channels: ['b'] }))).toEqual([-2, -3, -4])
    expect(await read(run, { channels: ['none'] })).toEqual({ ended: null, messages: [], head: 8 })
    expect(dataOf(await read(run, { after: 8 }))).toEqual([])
  })

  test('is null for a run that is not there, and for a run of another workspace', async () => {
    const run = await startRun(store)

    expect(await read(newUuid() as RunId)).toBeNull()
    expect(await read(run, { ws: (store.ws + 1_000) as typeof store.ws })).toBeNull()
  })
})

test('heads tell how far runs have come and which live, in the order in which they are asked for', async () => {
  const [first, second, third] = (await startRuns(store, 3)) as [RunId, RunId, RunId]
  for (const leased of await lease(store)) {
    const changes = leased.runId === first ? [] : [...aMessage('a', 1), ...aMessage('a', 2, 2)]
    await writeOne(store, anAdvance(leased, changes, leased.runId === third ? 'done' : 'running'))
  }

  expect(await findHeads(store.sql, store.ws, [third, first, second])).toEqual([
    { runId: third, head: 2, isLive: false },
    { runId: first, head: 0, isLive: true },
    { runId: second, head: 2, isLive: true },
  ])
})
