import { afterEach, describe, expect, test } from 'vitest'
import type { RunId } from '../../src/core/ids.ts'
import { createLog } from '../../src/log.ts'
import { type FollowItem, followRun } from '../../src/usecases/follow-run.ts'
import { RunFollowers } from '../../src/usecases/run-followers.ts'
import { anAdvance, aRecord, type Leased, leaseOne, newUuid, startRun, useStore, writeOne } from '../store/fixture.ts'

const store = useStore()
const LONG_MS = 60_000

let followers: RunFollowers | undefined
afterEach(() => followers?.close())

/** `holds`: whether the run is held here, so that the poll does not ask. */
function aDesk(given: { max?: number; holds?: () => boolean } = {}) {
  const { max = 10, holds = () => false } = given
  const desk = new RunFollowers({ sql: store.sql, held: { holds }, log: createLog('silent'), max })
  followers = desk
  return {
    desk,
    follow: (runId: RunId, { after = 0, channels = null as string[] | null, idleMs = LONG_MS } = {}) =>
      followRun({ sql: store.sql, followers: desk }, { ws: store.ws, runId, after, channels, idleMs }),
  }
}

/** Publishes, as an engine would that is another process. */
function publish(leased: Leased, from: number, count = 1, channel = 'log') {
  const changes = Array.from({ length: count }, (_, n) => [
    { kind: 'publish' as const, channel, data: String(from + n) },
    aRecord({ type: 'published', key: `publish:${channel}#${from + n}`, data: '{}' }),
  ]).flat()
  return writeOne(store, anAdvance(leased, changes, 'running', { nextSeq: from + 1 }))
}

const end = (leased: Leased) => writeOne(store, anAdvance(leased, [], 'done'))

async function take(items: AsyncGenerator<FollowItem, void>, count: number): Promise<unknown[]> {
  const taken: unknown[] = []
  while (taken.length < count) {
    const { value, done } = await items.next()
    if (done) return [...taken, 'over']
    taken.push(value.kind === 'message' ? value.message.seq : value.kind)
  }
  return taken
}

describe('following a run', () => {
  test('gives what it has published, page after page, and then its end', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    await publish(leased, 1, 100)
    await end(leased)
    const { desk, follow } = aDesk()

    const following = await follow(run, { after: 3 })

    const expected = [...Array.from({ length: 97 }, (_, n) => n + 4), 'end', 'over']
    expect(following && (await take(following.items, 200))).toEqual(expected)
    expect(desk.count).toBe(0)
  })

  test('gives what another process publishes later, and its end', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    const following = await aDesk().follow(run)
    if (following === null) throw new Error('no run')

    const first = take(following.items, 1)
    await publish(leased, 1)
    expect(await first).toEqual([1])
    const rest = take(following.items, 3)
    await publish(leased, 2)
    await end(leased)

    expect(await rest).toEqual([2, 'end', 'over'])
  })

  test('of a run that is held here goes by what is told, and misses nothing that was told before it looked', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    const { desk, follow } = aDesk({ holds: () => true })
    const following = await follow(run)
    if (following === null) throw new Error('no run')

    await publish(leased, 1)
    desk.tell(run)
    expect(await take(following.items, 1)).toEqual([1])
    const next = take(following.items, 1)
    await publish(leased, 2)
    desk.tell(run)

    expect(await next).toEqual([2])
  })

  test('on one channel is not given the others, and says so when it is quiet', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    await publish(leased, 1, 40, 'loud')
    await publish(leased, 41, 1, 'quiet')
    const following = await aDesk().follow(run, { channels: ['quiet'], idleMs: 1 })

    expect(following && (await take(following.items, 3))).toEqual([41, 'idle', 'idle'])
  })

  test('of two readers at different points gives each what it does not have', async () => {
    const run = await startRun(store)
    const leased = await leaseOne(store)
    await publish(leased, 1, 2)
    const { follow } = aDesk()
    const [early, late] = [await follow(run), await follow(run, { after: 2 })]
    if (early === null || late === null) throw new Error('no run')

    const both = Promise.all([take(early.items, 3), take(late.items, 1)])
    await publish(leased, 3)

    expect(await both).toEqual([[1, 2, 3], [3]])
  })

  test('of a run that is not there is null, and leaves nothing', async () => {
    const { desk, follow } = aDesk()

    expect(await follow(newUuid() as RunId)).toBeNull()
    expect(desk.count).toBe(0)
  })
})

describe('a follower', () => {
  test('that is closed while it waits ends at once, and leaves nothing', async () => {
    const run = await startRun(store)
    const { desk, follow } = aDesk()
    const following = await follow(run)
    if (following === null) throw new Error('no run')
    const waiting = take(following.items, 1)

    following.close()
    following.close()

    expect(await waiting).toEqual(['over'])
    expect(desk.count).toBe(0)
  })

  test('is refused when there are as many as may be', async () => {
    const run = await startRun(store)
    const { follow } = aDesk({ max: 1 })
    const first = await follow(run)

    await expect(follow(run)).rejects.toMatchObject({ code: 'too_many_streams', status: 503 })
    first?.close()

    expect(await follow(run)).not.toBeNull()
  })

  test('ends without an end when the engine stops, and no other is taken', async () => {
    const run = await startRun(store)
    const { desk, follow } = aDesk()
    const following = await follow(run)
    if (following === null) throw new Error('no run')
    const waiting = take(following.items, 1)

    await desk.close()

    expect(await waiting).toEqual(['over'])
    await expect(follow(run)).rejects.toMatchObject({ code: 'draining', status: 503 })
  })
})
