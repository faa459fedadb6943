import type { SyncAnswer } from '@stepwell/protocol'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { type Follower, followApp } from '../../src/cli/follow-app.ts'
import { EngineError } from '../../src/core/errors.ts'

const ANSWER: SyncAnswer = { workspace: 'default/dev', url: 'http://app', functions: [], removed: [] }

/** What the app's place is like now: an app, an error code, or a failure of ours. */
let place: 'app' | 'app_unreachable' | 'app_status' | 'failure'
let url: string | null
/** Each look, with what was asked of it. */
let looks: boolean[]
let strange: string[]
let follower: Follower

function follow(isNamed: boolean): void {
  follower = followApp({
    isNamed,
    url: async () => url,
    sync: async (_url, { onlyChanges }) => {
      looks.push(onlyChanges)
      if (place === 'failure') throw new Error('The database is away.')
      if (place !== 'app') throw new EngineError(place, 422, `It is ${place}.`)
      return ANSWER
    },
    onStrange: message => strange.push(message),
  })
}

beforeEach(() => {
  vi.useFakeTimers()
  place = 'app'
  url = 'http://app'
  looks = []
  strange = []
  return async () => {
    await follower.stop()
    vi.useRealTimers()
  }
})

describe('an app that registers by itself', () => {
  test('is looked for until it is there, quietly, and then left in peace', async () => {
    place = 'app_unreachable'
    follow(false)
    await vi.advanceTimersByTimeAsync(2_000)
    place = 'app'
    await vi.advanceTimersByTimeAsync(60_000)

    expect(looks).toEqual([false, false, false, false, false, false])
    expect(strange).toEqual([])
  })

  test('is looked for again when a run found nobody there, however often that is said', async () => {
    follow(false)
    await vi.advanceTimersByTimeAsync(0)
    place = 'app_unreachable'
    for (let said = 0; said < 30; said += 1) {
      follower.lookSoon()
      await vi.advanceTimersByTimeAsync(100)
    }
    place = 'app'
    await vi.advanceTimersByTimeAsync(60_000)

    // Twice a second at most; the last one syncs for good, so that runs that wait may go on.
    expect(looks.length).toBeGreaterThan(5)
    expect(looks.length).toBeLessThan(10)
    expect(looks.at(-1)).toBe(false)
  })

  test('that nobody knows is not looked for', async () => {
    url = null
    follow(false)
    await vi.advanceTimersByTimeAsync(60_000)

    expect(looks).toEqual([])
  })
})

describe('an app that was named', () => {
  test('is asked for changes every few seconds', async () => {
    follow(true)
    await vi.advanceTimersByTimeAsync(20_001)

    expect(looks).toEqual([false, true, true, true, true])
  })

  test('is synced for good when it comes back', async () => {
    follow(true)
    await vi.advanceTimersByTimeAsync(0)
    place = 'app_unreachable'
    await vi.advanceTimersByTimeAsync(5_000)
    place = 'app'
    await vi.advanceTimersByTimeAsync(5_600)

    expect(looks).toEqual([false, true, false, true])
  })
})

test('something else in its place is told once, and asked seldom', async () => {
  place = 'app_status'
  follow(true)
  await vi.advanceTimersByTimeAsync(12_000)

  expect(strange).toEqual(['It is app_status.'])
  expect(looks).toHaveLength(3)
})

test('a failure of ours is not held against the app', async () => {
  place = 'failure'
  follow(true)
  await vi.advanceTimersByTimeAsync(1_000)

  expect(strange).toEqual([])
  expect(looks).toHaveLength(3)
})

test('nothing is looked for after the stop', async () => {
  follow(true)
  await vi.advanceTimersByTimeAsync(0)
  await follower.stop()
  follower.lookSoon()
  await vi.advanceTimersByTimeAsync(60_000)

  expect(looks).toEqual([false])
})
