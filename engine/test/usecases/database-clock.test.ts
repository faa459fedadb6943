import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DatabaseClock } from '../../src/usecases/database-clock.ts'

const WALL = Date.parse('2026-03-01T12:00:00.000Z')

/** A clock of this process, the database's clock `aheadMs` before it, and what lies between them. */
function aWorld(given: { aheadMs?: number; wallMs?: number } = {}) {
  const world = { monotonicMs: 5_000, aheadMs: given.aheadMs ?? WALL }
  const clock = new DatabaseClock({ monotonicMs: () => world.monotonicMs, wallMs: () => given.wallMs ?? 0 })
  const databaseMs = () => world.monotonicMs + world.aheadMs
  return {
    world,
    databaseMs,
    /** How far the clock is ahead of the database's. */
    errorMs: () => clock.nowMs() - databaseMs(),
    nowMs: () => clock.nowMs(),
    /** A question that is so long on its way there, and the answer on its way back. */
    ask(thereMs: number, backMs: number) {
      const askedAtMs = world.monotonicMs
      world.monotonicMs += thereMs
      const told = databaseMs()
      world.monotonicMs += backMs
      clock.note(told, askedAtMs)
    },
    pass(ms: number) {
      world.monotonicMs += ms
    },
  }
}

test('until the database has been asked, the wall clock serves', () => {
  const { nowMs, pass } = aWorld({ wallMs: WALL })

  const first = nowMs()
  pass(30)

  expect([first, nowMs()]).toEqual([WALL, WALL + 30])
})

test.each([
  ['behind', WALL + 3_600_000],
  ['ahead', WALL - 3_600_000],
])('a wall clock that is %s does not matter once the database has been asked', (_what, aheadMs) => {
  const { ask, errorMs } = aWorld({ wallMs: WALL, aheadMs })

  ask(2, 3)

  // The upper bound: as if the database had been read at the very beginning.
  expect(errorMs()).toBeCloseTo(2)
})

describe('the bounds of many answers', () => {
  test('are those of the best: the quickest way there', () => {
    const { ask, errorMs } = aWorld()

    for (const thereMs of [20, 8, 1, 40, 5]) ask(thereMs, 10)

    expect(errorMs()).toBeGreaterThanOrEqual(1)
    expect(errorMs()).toBeLessThan(1.05)
  })

  test('are not widened by one that took long', () => {
    const { ask, errorMs } = aWorld()
    ask(0.5, 0.5)

    ask(500, 500)

    expect(errorMs()).toBeLessThan(0.7)
  })

  test('widen with time, as clocks run apart: 0.1 ms in a second', () => {
    const { ask, errorMs, pass } = aWorld()
    ask(1, 1)

    pass(10_000)
    ask(50, 50)

    expect(errorMs()).toBeCloseTo(1 + 10_100 * 1e-4)
  })
})

describe('a clock that is set', () => {
  test.each([
    ['forward', 60_000],
    ['backward', -60_000],
    ['forward by a moment', 5],
    ['backward by a moment', -5],
  ])('%s is known again with the next answer', (_what, jumpMs) => {
    const { ask, errorMs, world } = aWorld()
    ask(1, 1)

    world.aheadMs += jumpMs
    ask(1, 1)

    expect(errorMs()).toBeCloseTo(1)
  })

  test('is not given up for good: bounds narrow again after it', () => {
    const { ask, errorMs, world } = aWorld()
    ask(1, 1)
    world.aheadMs += 60_000
    ask(30, 30)

    ask(2, 30)

    expect(errorMs()).toBeLessThan(2.1)
  })
})

test('a database’s clock that runs apart is never behind ours by more than the clocks drift', () => {
  const delay = fc.double({ min: 0, max: 200, noNaN: true })
  fc.assert(
    fc.property(
      fc.double({ min: -5e-5, max: 5e-5, noNaN: true }),
      fc.array(fc.record({ thereMs: delay, backMs: delay, passMs: fc.nat(5_000) }), { minLength: 1, maxLength: 30 }),
      (drift, asks) => {
        const { ask, errorMs, pass, world } = aWorld()
        let sinceNoteMs = 0
        for (const { thereMs, backMs, passMs } of asks) {
          ask(thereMs, backMs)
          // What the two run apart from each other until the next answer.
          world.aheadMs += passMs * drift
          pass(passMs)
          sinceNoteMs = passMs

          expect(errorMs()).toBeGreaterThanOrEqual(-sinceNoteMs * 5e-5 - 1e-3)
          expect(errorMs()).toBeLessThanOrEqual(thereMs + sinceNoteMs * 5e-5 + 1e-3)
        }
      },
    ),
  )
})
