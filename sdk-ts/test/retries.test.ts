/** What a policy says beyond a number: how delays grow, how long attempts go on, and which errors are worth another one. */
import type { StepOp } from '@stepwell/protocol'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createFunction, NonRetriableError, type Retries, RetryAfterError } from '../src/index.ts'
import { until, useMovedClock } from './clock.ts'
import type { EngineDouble } from './engine-double.ts'
import { anEngine, aSignal } from './harness.ts'

afterEach(() => void vi.useRealTimers())

/** Every execution of a step that was told. */
function executionsOf(engine: EngineDouble): StepOp[] {
  const reports = [...engine.batches.flatMap(batch => batch.reports), ...engine.turns.map(({ report }) => report)]
  return reports.flatMap(report => report.ops).filter(op => op.op === 'step')
}

/** Drives a step that fails each time, under a policy. */
async function failing(retries: Retries, body: (attempt: number) => unknown = () => Promise.reject(new Error('no'))) {
  const engine = await anEngine(({ step }) => step.run('charge', ({ attempt }) => body(attempt), { retries }))
  const run = await engine.drive(engine.start('fn'))
  return { run, executions: executionsOf(engine) }
}

describe('the factor of retries', () => {
  test('travels with the policy, of the step or of its function', async () => {
    const fail = () => Promise.reject(new Error('no'))
    const engine = await anEngine(
      async ({ step }) => {
        await step.run('by-function', fail).catch(() => {})
        await step.run('by-step', fail, { retries: { limit: 1, factor: 1 } }).catch(() => {})
      },
      { retries: { limit: 1, factor: 3.5 } },
    )

    await engine.drive(engine.start('fn'))

    const factorOf = (key: string) => executionsOf(engine).find(op => op.key === key)?.retry?.factor
    expect([factorOf('by-function'), factorOf('by-step')]).toEqual([3.5, 1])
  })

  test('is not told when it is 2, which is what the wire means without it', async () => {
    const { executions } = await failing({ limit: 1, factor: 2 })

    expect(executions[0]?.retry).toEqual({ maxAttempts: 2, minDelayMs: 1_000, maxDelayMs: 3_600_000 })
  })
})

describe('the total of retries', () => {
  test('ends them when the next attempt would begin later, by the clock of the engine', async () => {
    const { run, executions } = await failing({ limit: 50, minDelay: '10s', factor: 1, total: '35s' })

    // They begin after 0, 10, 20 and 30 seconds; one after 40 is not made.
    expect(executions).toHaveLength(4)
    expect(executions.map(op => op.retry === undefined)).toEqual([false, false, false, true])
    expect(run.journal.at(-1)).toMatchObject({ type: 'step_failed', data: { attempt: 4 } })
  })

  test('counts what a RetryAfterError asks for', async () => {
    const { executions } = await failing({ limit: 50, minDelay: 1, total: '1m' }, attempt => {
      throw new RetryAfterError('busy', attempt === 1 ? '50s' : '20s')
    })

    expect(executions.map(op => op.retry?.afterMs)).toEqual([50_000, undefined])
  })

  test('counts from when the first attempt began, not from when it failed', async () => {
    useMovedClock()
    const ends = [aSignal(), aSignal()]
    const engine = await anEngine(({ step }) =>
      step.run('charge', ({ attempt }) => ends[attempt - 1]?.promise, {
        retries: { limit: 50, minDelay: '10s', factor: 1, total: '25s' },
      }),
    )
    const run = engine.start('fn')
    const first = engine.turn(run)
    await until(() => vi.getTimerCount() > 0)
    await vi.advanceTimersByTimeAsync(9_000)
    ends[0]?.reject(new Error('no'))
    await first
    run.letNextDueArrive()

    ends[1]?.reject(new Error('no'))
    await engine.drive(run)

    // The second attempt began after 19 seconds; the third would after 29.
    expect(executionsOf(engine).map(op => op.retry === undefined)).toEqual([false, true])
  })

  test('counts the first attempt itself', async () => {
    useMovedClock()
    const end = aSignal()
    const engine = await anEngine(({ step }) =>
      step.run('charge', () => end.promise, { retries: { limit: 5, minDelay: '1s', total: '5s' } }),
    )
    const turn = engine.drive(engine.start('fn'))
    await until(() => vi.getTimerCount() > 0)

    await vi.advanceTimersByTimeAsync(4_500)
    end.reject(new Error('no'))
    await turn

    expect(executionsOf(engine)).toMatchObject([{ attempt: 1 }])
  })

  test('leaves the limit as it is', async () => {
    const { executions } = await failing({ limit: 1, minDelay: 1, total: '1d' })

    expect(executions).toHaveLength(2)
  })
})

describe('the condition of retries', () => {
  class CardDeclined extends Error {
    override readonly name = 'CardDeclined'
  }

  test('gets what was thrown and the attempt, and makes it the last one when it says no', async () => {
    const seen: [unknown, number][] = []
    const isRetried = (error: unknown, attempt: number) => {
      seen.push([error, attempt])
      return !(error instanceof CardDeclined)
    }

    const { run, executions } = await failing({ limit: 5, minDelay: 1, if: isRetried }, attempt => {
      throw attempt < 3 ? new TypeError('network') : new CardDeclined('no funds')
    })

    expect(seen).toEqual([
      [new TypeError('network'), 1],
      [new TypeError('network'), 2],
      [new CardDeclined('no funds'), 3],
    ])
    expect(executions).toHaveLength(3)
    expect(run.ended?.error).toMatchObject({ name: 'CardDeclined' })
  })

  test('is taken from the function by steps that have no retries of their own', async () => {
    const engine = await anEngine(({ step }) => step.run('a', () => Promise.reject(new Error('no'))), {
      retries: { limit: 5, if: () => false },
    })

    await engine.drive(engine.start('fn'))

    expect(executionsOf(engine)).toHaveLength(1)
  })

  test('is not asked where no attempt would follow', async () => {
    const isRetried = vi.fn(() => true)

    await failing({ limit: 1, minDelay: 1, if: isRetried })
    await failing({ limit: 5, if: isRetried }, () => {
      throw new NonRetriableError('no')
    })

    expect(isRetried.mock.calls).toEqual([[new Error('no'), 1]])
  })

  test('that throws fails the step with what it threw', async () => {
    const { run } = await failing({
      limit: 5,
      if: () => {
        throw new RangeError('in the condition')
      },
    })

    expect(run.ended?.error).toMatchObject({ name: 'RangeError', message: 'in the condition' })
  })

  test('that gives a promise is refused: it would always mean yes', async () => {
    const { run } = await failing({ limit: 5, if: (async () => false) as never })

    expect(run.ended?.error).toMatchObject({ code: 'retries_invalid', message: expect.stringContaining('at once') })
  })
})

test.each([
  ['a factor below 1', { factor: 0.5 }, /factor is 0.5; use a number from 1 .* to 10/],
  ['a factor above 10', { factor: 11 }, /factor is 11/],
  ['a factor that is no number', { factor: '2' }, /factor is 2/],
  ['a total that is no duration', { total: 'soon' }, /total: The duration "soon"/],
  ['a condition that is no function', { if: true }, /if is no function; pass one/],
  ['null', null, /the number of retries is null/],
])('%s is refused where the function is declared', (_name, retries, message) => {
  const declare = () =>
    createFunction({ id: 'fn', trigger: { event: 'e' }, handler: () => {}, retries: retries as never })

  expect(declare).toThrow(expect.objectContaining({ code: 'retries_invalid' }))
  expect(declare).toThrow(/function "fn"/)
  expect(declare).toThrow(message)
})
