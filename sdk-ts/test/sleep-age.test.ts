/** How long ago a sleep was asked for, as reports tell it. */
import type { Op, SleepOp } from '@stepwell/protocol'
import { afterEach, expect, test, vi } from 'vitest'
import { timed, until, useMovedClock } from './clock.ts'
import type { EngineDouble } from './engine-double.ts'
import { anEngine, aSignal } from './harness.ts'

afterEach(() => void vi.useRealTimers())

/** Every sleep that was told, in reports and in responses. */
function sleepsOf(engine: EngineDouble): SleepOp[] {
  const reports = [...engine.batches.flatMap(batch => batch.reports), ...engine.turns.map(({ report }) => report)]
  return reports.flatMap(report => report.ops).filter((op: Op): op is SleepOp => op.op === 'sleep')
}

test('a sleep that is told at once is of no age', async () => {
  useMovedClock()
  vi.advanceTimersByTime(5_000)
  const engine = await anEngine(({ step }) => step.sleep('nap', '1s'))

  await engine.turn(engine.start('fn'))

  expect(sleepsOf(engine)).toEqual([{ op: 'sleep', key: 'nap', saw: 1, ms: 1_000, ageMs: 0 }])
})

test('a sleep gets older while an earlier report is not answered', async () => {
  useMovedClock()
  const [gate, outside, end] = [aSignal(), aSignal(), aSignal()]
  let isAsked = false
  const engine = await anEngine(({ step }) =>
    Promise.all([
      step.run('quick', () => 1),
      step.run('long', () => end.promise),
      outside.promise.then(() => {
        const nap = step.sleep('nap', '1s')
        isAsked = true
        return nap
      }),
    ]),
  )
  engine.gate = gate.promise
  const turn = engine.turn(engine.start('fn'))
  await until(() => engine.batches.length === 1)

  outside.resolve()
  await until(() => isAsked)
  await vi.advanceTimersByTimeAsync(300)
  gate.resolve()
  end.resolve()
  await timed(turn)

  const [nap] = sleepsOf(engine)
  expect(nap).toMatchObject({ key: 'nap', ms: 1_000 })
  expect(nap?.ageMs).toBeGreaterThanOrEqual(300)
})

test('a sleep gets older while its handler keeps the turn busy', async () => {
  useMovedClock()
  const engine = await anEngine(({ step }) => {
    const nap = step.sleep('nap', '1s')
    vi.advanceTimersByTime(40)
    return nap
  })

  await engine.turn(engine.start('fn'))

  expect(sleepsOf(engine)).toMatchObject([{ ms: 1_000, ageMs: 40 }])
})

test('a sleep until an instant has no age', async () => {
  const engine = await anEngine(({ step }) => step.sleepUntil('nap', '2026-03-01T12:00:00.000Z'))

  await engine.turn(engine.start('fn'))

  expect(sleepsOf(engine)).toEqual([{ op: 'sleep', key: 'nap', saw: 1, until: '2026-03-01T12:00:00.000Z' }])
})

test('a sleep that is recorded is asked for again on replay, and not told again', async () => {
  const engine = await anEngine(async ({ step }) => {
    await step.sleep('nap', '1s')
    await step.sleep('siesta', '1s')
  })
  const run = await engine.drive(engine.start('fn'))

  expect(run.ended).toEqual({})
  expect(sleepsOf(engine).map(({ key }) => key)).toEqual(['nap', 'siesta'])
})
