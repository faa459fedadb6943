import type { Entry } from '@stepwell/protocol'
import { describe, expect, test, vi } from 'vitest'
import type { ReportAnswer } from '../src/reporter.ts'
import { executeTurn } from '../src/turn.ts'
import { anEngine, aSignal, aTurnOf, THREE_STEPS } from './harness.ts'
import { AT } from './requests.ts'

describe('a turn that has to end early', () => {
  test('starts nothing after the engine asked it to yield', async () => {
    const engine = await anEngine(THREE_STEPS)
    engine.onReport = report => (report.n === 2 ? { yield: true } : undefined)
    const run = engine.start('fn')

    const report = await engine.turn(run)

    expect(report).toMatchObject({ state: 'continue', ops: [], n: 3 })
    expect(run.types()).toEqual(['run_started', 'step_completed', 'step_completed'])
  })

  test('lets bodies that run end before it yields', async () => {
    const gate = aSignal()
    const engine = await anEngine(async ({ step }) => {
      await Promise.all([step.run('slow', () => gate.promise), step.run('quick', () => 1)])
      return 'end'
    })
    engine.onReport = () => {
      gate.resolve()
      return { yield: true }
    }
    const run = engine.start('fn')

    const report = await engine.turn(run)
    await engine.drive(run)

    expect(report.state).toBe('continue')
    expect(report.ops).toMatchObject([{ op: 'step', key: 'slow' }])
    expect(run.ended).toEqual({ output: 'end' })
  })

  test('starts at least one body when the budget is used up, and no second one', async () => {
    const engine = await anEngine(THREE_STEPS)

    const run = await engine.drive(engine.start('fn'), { budgetMs: 0 })

    expect(run.ended).toEqual({ output: 'abc' })
    expect(engine.turns.map(({ report }) => [report.state, report.ops.length])).toEqual([
      ['continue', 1],
      ['continue', 1],
      ['continue', 1],
      ['done', 1],
    ])
  })

  test('waits as ever when it was asked to yield and nothing is left to run', async () => {
    const engine = await anEngine(({ step }) =>
      Promise.all([step.run('a', () => 1), step.sleep('s', '1h').then(() => step.run('b', () => 2))]),
    )
    engine.onReport = () => ({ yield: true })
    const run = engine.start('fn')

    const report = await engine.turn(run)

    expect(report.state).toBe('waiting')
    expect((await engine.drive(run)).ended).toEqual({ output: [1, 2] })
  })
})

test('a body that runs for long sends a sign of life every 3 seconds', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  const gate = aSignal()
  const sentAtMs: number[] = []
  const startedAtMs = performance.now()
  const ended = executeTurn({
    ...aTurnOf(({ step }) => step.run('slow', () => gate.promise)),
    deliver: async text => {
      const ops = JSON.parse(text).ops as unknown[]
      if (ops.length === 0) sentAtMs.push(performance.now() - startedAtMs)
      const entry = { seq: 2, turn: 1, at: AT, type: 'step_completed' as const, key: 'slow', saw: 1 }
      return { kind: 'acknowledged', entries: ops.length === 0 ? [] : [entry], shouldYield: false }
    },
  })

  for (let second = 0; second < 13; second += 1) {
    await new Promise(resolve => setImmediate(resolve))
    await vi.advanceTimersByTimeAsync(1_000)
  }
  gate.resolve()
  await ended

  expect(sentAtMs).toEqual([3_000, 6_000, 9_000, 12_000])
  vi.useRealTimers()
})

test('a sleep that is over while a body runs is asked about at once, and again until it is told', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  const gate = aSignal()
  let recordedAtMs = 0
  const askedAtMs: number[] = []
  const head = { turn: 1, at: AT, key: 'timeout' }
  const ended = executeTurn({
    ...aTurnOf(({ step }) =>
      Promise.race([step.run('slow', () => gate.promise), step.sleep('timeout', '5s').then(() => 'timed out')]),
    ),
    deliver: async text => {
      if (JSON.parse(text).ops.length > 0) {
        recordedAtMs = performance.now()
        const until = new Date(Date.parse(AT) + 5_000).toISOString()
        const entries: Entry[] = [{ ...head, seq: 2, type: 'sleep_started', saw: 1, data: { until } }]
        return { kind: 'acknowledged', entries, shouldYield: false }
      }
      askedAtMs.push(performance.now() - recordedAtMs)
      const isOver = askedAtMs.length === 4
      const entries: Entry[] = isOver ? [{ ...head, seq: 3, type: 'sleep_completed' }] : []
      return { kind: 'acknowledged', entries, shouldYield: false }
    },
  })

  for (let tick = 0; tick < 130; tick += 1) {
    await new Promise(resolve => setImmediate(resolve))
    await vi.advanceTimersByTimeAsync(50)
  }
  const end = await ended
  vi.useRealTimers()

  expect(askedAtMs).toEqual([3_000, 5_000, 5_050, 5_100])
  expect(end.kind === 'report' && JSON.parse(end.text)).toMatchObject({ ops: [{ op: 'finish', output: 'timed out' }] })
})

test('a handler that ends while a report is on its way waits for the answer', async () => {
  const outside = aSignal()
  const answered = aSignal<ReportAnswer>()
  const ended = executeTurn({
    ...aTurnOf(async ({ step }) => {
      void step.run('not-awaited', () => 1)
      await outside.promise
    }),
    deliver: () => {
      outside.resolve()
      return answered.promise
    },
  })

  const first = await Promise.race([ended, new Promise(resolve => setTimeout(resolve, 20, 'still waiting'))])
  answered.resolve({ kind: 'stale', message: 'another holder has the run' })

  expect(first).toBe('still waiting')
  expect(await ended).toEqual({ kind: 'stale', message: 'another holder has the run' })
})

test('an op that was acknowledged and left no entry makes the turn continue, not wait', async () => {
  const gate = aSignal()
  const end = await executeTurn({
    ...aTurnOf(({ step }) => Promise.all([step.run('slow', () => gate.promise), step.sleep('lost', '1h')])),
    deliver: async text => {
      gate.resolve()
      const isStep = text.includes('"op":"step"')
      const entry: Entry = { seq: 2, turn: 1, at: AT, type: 'step_completed', key: 'slow', saw: 1 }
      return { kind: 'acknowledged', entries: isStep ? [entry] : [], shouldYield: false }
    },
  })

  expect(end.kind === 'report' && JSON.parse(end.text)).toMatchObject({ state: 'continue', ops: [] })
})
