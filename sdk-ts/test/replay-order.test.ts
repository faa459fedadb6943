import type { Entry, Op, Report } from '@stepwell/protocol'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Dice, randomHistory, runTurn } from './random-history.ts'
import { randomPrograms } from './random-programs.ts'

/** Fixed, so that a failure is the same failure again; fast-check prints it with the path to the case. */
const SEED = 20_260_101
const PROGRAMS = 10_000
/** Each program's journal is cut at this many points: 20,000 histories in all. */
const CUTS = 2

test('whatever arrives in whatever order, two replays of a journal ask for the same in the same order', async () => {
  const seen = new Set<string>()

  await fc.assert(
    fc.asyncProperty(randomPrograms('any'), fc.integer(), async (program, seed) => {
      const dice = diceOf(seed)
      const whole = await randomHistory(program, dice)
      for (const { type } of whole) seen.add(type)
      for (let cut = 0; cut < CUTS; cut += 1) {
        const journal = whole.slice(0, 1 + Math.floor(dice() * whole.length))

        const first = await runTurn(program, journal)
        const second = await runTurn(program, journal)

        expect(comparable(second)).toEqual(comparable(first))
        expect(first.state).not.toBe('refused')
        for (const op of first.ops) expectAsRecorded(op, whole)
        for (const { op } of first.ops) seen.add(op)
      }
    }),
    { numRuns: PROGRAMS, seed: SEED },
  )

  expect([...seen].sort()).toEqual([...EVERYTHING].sort())
}, 180_000)

/** What was recorded live under the key of an op had been asked for at the same point. */
function expectAsRecorded(op: Op, journal: Entry[]): void {
  if (!('key' in op)) return
  const recorded = journal.find(entry => 'key' in entry && entry.key === op.key)
  if (recorded !== undefined && 'saw' in recorded) expect([op.key, op.saw]).toEqual([op.key, recorded.saw])
}

/** A report without times, and without stacks: those name the lines of this file. */
function comparable(report: Report): unknown {
  const isLeftOut = (name: string) => /^(stack|startedMs|durationMs|ageMs|replayMs)$/.test(name)
  return JSON.parse(JSON.stringify(report), (name, value) => (isLeftOut(name) ? undefined : value))
}

/** Numbers that look like chance (mulberry32). */
function diceOf(seed: number): Dice {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const EVERYTHING = [
  'run_started',
  'step_completed',
  'step_failed',
  'step_retrying',
  'step_due',
  'sleep_started',
  'sleep_completed',
  'wait_opened',
  'wait_matched',
  'wait_expired',
  'events_sent',
  'signal_awaited',
  'signal_received',
  'signal_expired',
  'child_started',
  'child_completed',
  'child_failed',
  'child_expired',
  'child_detached',
  'cancel_requested',
  'step',
  'sleep',
  'wait',
  'send',
  'receive',
  'invoke',
  'finish',
  'fail',
  'cancelled',
  'continue_as_new',
]
