/** Handlers that await something that is no step, while a step is open for ever. The clock is moved by hand. */
import type { Entry } from '@stepwell/protocol'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { executeTurn } from '../src/turn.ts'
import type { TurnInput } from '../src/turn-input.ts'
import { aTurnOf, type Handler } from './harness.ts'
import { AT } from './requests.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }))
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const outside = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

/** Executes a turn that records at once what it reports; tells what and when, the last report and when that came. */
async function report(input: Omit<TurnInput, 'deliver'>, { shouldYield = false } = {}) {
  let seq = input.turn.journal.length
  const startMs = performance.now()
  const recordedAtMs: Record<string, number> = {}
  const ended = executeTurn({
    ...input,
    deliver: async text => {
      const { ops } = JSON.parse(text) as { ops: { op: 'step' | 'wait' | 'sleep'; key: string; event: string }[] }
      const entries = ops.map(({ op, key, event }): Entry => {
        seq += 1
        recordedAtMs[key] = performance.now() - startMs
        const head = { seq, turn: 1, at: AT, key, saw: 1 }
        if (op === 'step') return { ...head, type: 'step_completed' }
        if (op === 'wait') return { ...head, type: 'wait_opened', data: { event } }
        return { ...head, type: 'sleep_started', data: { until: '2099-01-01T00:00:00.000Z' } }
      })
      return { kind: 'acknowledged', entries, shouldYield }
    },
  })
  let isSettled = false
  void ended.then(() => {
    isSettled = true
  })
  for (;;) {
    for (let turns = 0; turns < 20 && !isSettled; turns += 1) await new Promise(resolve => setImmediate(resolve))
    if (isSettled) break
    await vi.advanceTimersByTimeAsync(10)
  }
  const end = await ended
  const tookMs = performance.now() - startMs
  return {
    tookMs,
    recordedAtMs,
    ...(JSON.parse(end.kind === 'report' ? end.text : '{}') as { state: string; ops: unknown[] }),
  }
}

/** A race is won by a step while its loser is open for ever; then something outside is awaited. */
function raceThen(ms: number, next: (step: Parameters<Handler>[0]['step']) => unknown = () => 'end'): Handler {
  return async ({ step }) => {
    await Promise.race([step.run('winner', () => 1), step.waitForEvent('loser', { event: 'never' })])
    await outside(ms)
    return next(step)
  }
}

describe('a handler that awaits something else after a race', () => {
  test('is waited for, though the loser of the race is open', async () => {
    const { state, tookMs } = await report(aTurnOf(raceThen(300)))

    expect(state).toBe('done')
    expect(tookMs).toBeLessThan(500)
  })

  test('is waited for also when the engine wants the turn to end', async () => {
    const { state } = await report(aTurnOf(raceThen(300)), { shouldYield: true })

    expect(state).toBe('done')
  })

  test('is waited for when the race is replayed', async () => {
    const input = aTurnOf(raceThen(300))
    const head = { turn: 1, at: AT, saw: 1 }
    input.turn.journal.push({ ...head, seq: 2, type: 'step_completed', key: 'winner' })
    input.turn.journal.push({ ...head, seq: 3, type: 'wait_opened', key: 'loser', data: { event: 'never' } })

    expect((await report(input)).state).toBe('done')
  })

  test('is waited for when what it asked for last was settled at once', async () => {
    const input = aTurnOf(async ({ step }) => {
      const loser = step.waitForEvent('loser', { event: 'never' })
      await Promise.race([step.run('first', () => 1), loser])
      await step.run('second', () => 1)
      await outside(300)
    })
    const head = { turn: 1, at: AT, saw: 1 }
    input.turn.journal.push({ ...head, seq: 2, type: 'step_completed', key: 'second' })
    input.turn.journal.push({ ...head, seq: 3, type: 'step_completed', key: 'first' })

    expect((await report(input)).state).toBe('done')
  })
})

describe('no time is lost', () => {
  test.each<[string, Handler]>([
    [
      'by steps one after the other and a sleep',
      async ({ step }) => {
        for (const id of ['a', 'b', 'c']) await step.run(id, () => 1)
        await step.sleep('rest', '1d')
      },
    ],
    [
      'by a race and what comes after it',
      async ({ step }) => {
        await Promise.race([step.run('winner', () => 1), step.waitForEvent('loser', { event: 'never' })])
        await step.waitForEvent('next', { event: 'next' })
      },
    ],
    [
      'by branches that end before the next step',
      async ({ step }) => {
        await Promise.all([step.run('a', () => 1), step.run('b', () => 1)])
        await step.sleep('rest', '1d')
      },
    ],
  ])('%s', async (_name, handler) => {
    const { state, tookMs } = await report(aTurnOf(handler))

    expect(state).toBe('waiting')
    expect(tookMs).toBe(0)
  })
})

test('a branch that has ended while others are open holds the turn for a second', async () => {
  const { state, tookMs } = await report(
    aTurnOf(({ step }) => Promise.all([step.run('a', () => 1), step.sleep('s', '1d')])),
  )

  expect(state).toBe('waiting')
  expect(tookMs).toBeGreaterThanOrEqual(1_000)
  expect(tookMs).toBeLessThan(1_200)
})

test('a turn that is held records the sleeps of other branches at once', async () => {
  const handler: Handler = ({ step }) =>
    Promise.all([step.run('a', () => 1).then(() => step.sleep('rest', '1d')), step.run('b', () => 1)])

  const { state, tookMs, recordedAtMs } = await report(aTurnOf(handler, { concurrency: 2 }))

  expect(state).toBe('waiting')
  expect(tookMs).toBeGreaterThanOrEqual(1_000)
  expect(recordedAtMs.rest).toBe(0)
})

describe('a handler that goes on when its turn was given up as waiting', () => {
  test.each<[string, Handler, RegExp]>([
    ['asks', raceThen(3_000, step => Promise.all([step.run('x', () => 1), step.run('y', () => 1)])), /step "x"/],
    ['ends', raceThen(3_000), /ended/],
    [
      'asks after it awaited nothing but an open wait',
      async ({ step }) => {
        await Promise.race([step.waitForEvent('loser', { event: 'never' }), outside(50)])
        await step.run('x', () => 1)
      },
      /step "x"/,
    ],
  ])('is told of, once: it %s', async (_name, handler, what) => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})

    const { state } = await report(aTurnOf(handler))
    await vi.advanceTimersByTimeAsync(5_000)

    expect(state).toBe('waiting')
    expect(warn).toHaveBeenCalledTimes(1)
    const message = String(warn.mock.calls[0]?.[0])
    expect(message).toMatch(/"fn".*run_1/)
    expect(message).toMatch(what)
    expect(message).toContain('Put what is awaited between steps into a step')
  })

  test('is waited for in its next turns', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => {})
    const input = aTurnOf(raceThen(3_000, step => step.run('x', () => 1)))
    const first = await report(input)
    await vi.advanceTimersByTimeAsync(5_000)

    const second = await report(input)

    expect(first.state).toBe('waiting')
    expect(second.state).toBe('done')
  })

  test('of which the engine will hear again is not told of', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
    const asked: string[] = []
    const input = aTurnOf(async ({ step }) => {
      const branch = async () => {
        await step.run('a', () => 1)
        await outside(50)
        asked.push('x')
        await step.run('x', () => 1)
      }
      await Promise.all([branch(), step.run('b', () => 1)])
    })

    const { state } = await report(input, { shouldYield: true })
    await vi.advanceTimersByTimeAsync(5_000)

    expect(state).toBe('continue')
    expect(asked).toEqual(['x'])
    expect(warn).not.toHaveBeenCalled()
  })
})
