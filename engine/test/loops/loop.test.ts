import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createLog } from '../../src/log.ts'
import { type Loop, startLoop } from '../../src/loops/loop.ts'

const log = createLog('silent')
let loops: Loop[] = []

beforeEach(() => vi.useFakeTimers())
afterEach(async () => {
  const stopping = Promise.all(loops.map(loop => loop.stop()))
  await vi.advanceTimersByTimeAsync(1_000)
  await stopping
  loops = []
  vi.useRealTimers()
})

/** A loop whose work is counted, and can be held up. */
function aLoop(work: (round: number) => Promise<number>) {
  let rounds = 0
  const loop = startLoop({
    name: 'test',
    log,
    work: () => {
      rounds += 1
      return work(rounds)
    },
  })
  loops.push(loop)
  return { loop, rounds: () => rounds }
}

test('works at once, and again after the pause that the work asked for', async () => {
  const { rounds } = aLoop(async () => 1_000)

  await vi.advanceTimersByTimeAsync(0)
  expect(rounds()).toBe(1)
  await vi.advanceTimersByTimeAsync(999)
  expect(rounds()).toBe(1)
  await vi.advanceTimersByTimeAsync(1)
  expect(rounds()).toBe(2)
})

test('a wake cuts the pause short', async () => {
  const { loop, rounds } = aLoop(async () => 60_000)
  await vi.advanceTimersByTimeAsync(0)

  loop.wake()
  await vi.advanceTimersByTimeAsync(0)

  expect(rounds()).toBe(2)
})

test('a wake during the work means working again, never two at once', async () => {
  let atOnce = 0
  let most = 0
  const { loop, rounds } = aLoop(async () => {
    atOnce += 1
    most = Math.max(most, atOnce)
    await new Promise(resolve => setTimeout(resolve, 100))
    atOnce -= 1
    return 60_000
  })

  await vi.advanceTimersByTimeAsync(10)
  loop.wake()
  loop.wake()
  await vi.advanceTimersByTimeAsync(300)

  expect(rounds()).toBe(2)
  expect(most).toBe(1)
})

test('a wish for later that comes during the work is kept', async () => {
  const { loop, rounds } = aLoop(async () => {
    await new Promise(resolve => setTimeout(resolve, 100))
    return 60_000
  })

  await vi.advanceTimersByTimeAsync(50)
  loop.wakeIn(200)
  await vi.advanceTimersByTimeAsync(199)
  expect(rounds()).toBe(1)
  await vi.advanceTimersByTimeAsync(2)

  expect(rounds()).toBe(2)
})

test('after a failure it waits, longer each time, and goes on when the work succeeds', async () => {
  const { rounds } = aLoop(async round => {
    if (round <= 3) throw new Error('away')
    return 60_000
  })

  await vi.advanceTimersByTimeAsync(0)
  expect(rounds()).toBe(1)
  await vi.advanceTimersByTimeAsync(100)
  expect(rounds()).toBe(2)
  await vi.advanceTimersByTimeAsync(100)
  expect(rounds()).toBe(2)
  await vi.advanceTimersByTimeAsync(100 + 400)

  expect(rounds()).toBe(4)
})

test('a stop waits for the work under way and lets none follow', async () => {
  const { loop, rounds } = aLoop(async () => {
    await new Promise(resolve => setTimeout(resolve, 100))
    return 0
  })
  await vi.advanceTimersByTimeAsync(10)

  const stopped = loop.stop()
  await vi.advanceTimersByTimeAsync(1_000)
  await stopped
  loop.wake()
  await vi.advanceTimersByTimeAsync(1_000)

  expect(rounds()).toBe(1)
})
