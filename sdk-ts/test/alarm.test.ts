import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Alarm } from '../src/alarm.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }))
afterEach(() => void vi.useRealTimers())

test('a call that comes before anybody sleeps wakes the next sleeper', async () => {
  const alarm = new Alarm()

  alarm.wake()
  await alarm.wait(Number.POSITIVE_INFINITY)
  const next = alarm.wait(Number.POSITIVE_INFINITY).then(() => 'awake')
  await vi.advanceTimersByTimeAsync(1_000)

  expect(await Promise.race([next, Promise.resolve('asleep')])).toBe('asleep')
})

test('a call wakes the sleeper once', async () => {
  const alarm = new Alarm()
  const first = alarm.wait(Number.POSITIVE_INFINITY)
  alarm.wake()
  await first

  const second = alarm.wait(performance.now() + 100)
  const isAwake = await Promise.race([second.then(() => true), Promise.resolve(false)])

  expect(isAwake).toBe(false)
  alarm.close()
})

test('the clock wakes at the earliest time that was asked for', async () => {
  const alarm = new Alarm()
  const startMs = performance.now()
  const wokenAtMs: number[] = []
  void alarm.wait(startMs + 1_000).then(() => wokenAtMs.push(performance.now() - startMs))
  alarm.wake()
  await vi.advanceTimersByTimeAsync(0)
  void alarm.wait(startMs + 50).then(() => wokenAtMs.push(performance.now() - startMs))

  await vi.advanceTimersByTimeAsync(2_000)

  expect(wokenAtMs).toEqual([0, 50])
})
