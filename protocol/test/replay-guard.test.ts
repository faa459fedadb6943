import { expect, test } from 'vitest'
import { createReplayGuard } from '../src/index.ts'

const NOW_MS = 1_767_225_600_000
const MINUTE_MS = 60_000

test('an id is accepted once', () => {
  const guard = createReplayGuard()

  expect(guard.accept('msg_1', NOW_MS)).toBe(true)
  expect(guard.accept('msg_1', NOW_MS)).toBe(false)
  expect(guard.accept('msg_2', NOW_MS)).toBe(true)
})

test('an id is refused for as long as its timestamp can be within the tolerance', () => {
  // The hardest case: the generations turn right after the id came, and turn again as soon as they may.
  for (let bornMs = 10 * MINUTE_MS - 2_000; bornMs <= 10 * MINUTE_MS + 2_000; bornMs += 100) {
    const guard = createReplayGuard()
    guard.accept('first', NOW_MS - bornMs)
    guard.accept('msg_1', NOW_MS)
    for (let ms = 0; ms <= 10 * MINUTE_MS + 900; ms += 100) guard.accept(`a${ms}`, NOW_MS + ms)

    expect(guard.accept('msg_1', NOW_MS + 10 * MINUTE_MS + 999)).toBe(false)
  }
})

test('an id is forgotten after twenty-one minutes, busy or idle', () => {
  const idle = createReplayGuard()
  const busy = createReplayGuard()
  idle.accept('msg_1', NOW_MS)
  busy.accept('msg_1', NOW_MS)
  for (let ms = 0; ms < 21 * MINUTE_MS; ms += 1_000) busy.accept(`a${ms}`, NOW_MS + ms)

  expect(idle.accept('msg_1', NOW_MS + 21 * MINUTE_MS)).toBe(true)
  expect(busy.accept('msg_1', NOW_MS + 21 * MINUTE_MS)).toBe(true)
})

test('at most `max` ids are remembered, the newest ones', () => {
  const ids = Array.from({ length: 37 }, (_, i) => `msg_${i}`)

  // Asking adds the id, so that each question goes to a guard of its own.
  const remembered = ids.filter(asked => {
    const guard = createReplayGuard({ max: 10 })
    for (const id of ids) guard.accept(id, NOW_MS)
    return !guard.accept(asked, NOW_MS)
  })

  expect(remembered.length).toBeGreaterThanOrEqual(5)
  expect(remembered).toEqual(ids.slice(-remembered.length))
  expect(remembered.length).toBeLessThanOrEqual(10)
})

test('a clock that steps back forgets nothing', () => {
  const guard = createReplayGuard()
  guard.accept('msg_1', NOW_MS)

  expect(guard.accept('msg_2', NOW_MS - 60 * MINUTE_MS)).toBe(true)
  expect(guard.accept('msg_1', NOW_MS - 60 * MINUTE_MS)).toBe(false)
})
