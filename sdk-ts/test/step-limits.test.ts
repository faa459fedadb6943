/** Bodies that take too long, or are silent for too long. */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { type StepContext, StepError, TimeoutError } from '../src/index.ts'
import { until, useMovedClock } from './clock.ts'
import { anEngine, aSignal, type Handler } from './harness.ts'

afterEach(() => void vi.useRealTimers())

/** Timers of the turn itself are there as well: how many are set before and after shows those of a body. */
const timers = () => vi.getTimerCount()

/** Starts a run whose step begins, and gives what is needed to look at it. */
async function begun(handler: Handler) {
  useMovedClock()
  const engine = await anEngine(handler)
  const run = engine.start('fn')
  return { engine, run, driven: engine.drive(run) }
}

describe('the timeout of a step', () => {
  test('fails an attempt that takes longer, fires the signal, and lets the policy decide', async () => {
    const contexts: StepContext[] = []
    const { run, engine, driven } = await begun(({ step }) =>
      step.run(
        'charge',
        context => {
          contexts.push(context)
          void context.signal
          return context.attempt === 1 ? new Promise(() => {}) : 'done'
        },
        { timeout: '30s' },
      ),
    )
    await until(() => contexts.length === 1)

    await vi.advanceTimersByTimeAsync(29_999)
    expect(contexts[0]?.signal.aborted).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    await driven

    expect(contexts[0]?.signal.reason).toBeInstanceOf(TimeoutError)
    expect(run.journal[1]).toMatchObject({
      type: 'step_retrying',
      data: { attempt: 1, error: { name: 'TimeoutError', code: 'step_timed_out' } },
    })
    const told = run.journal[1]?.type === 'step_retrying' ? run.journal[1].data.error.message : ''
    expect(told).toMatch(/^Step "charge" did not end within 30s\. Give it a longer timeout/)
    expect(run.ended).toEqual({ output: 'done' })
    expect(engine.turns.length).toBeGreaterThan(1)
  })

  test('is what the handler sees when no attempt is left', async () => {
    let caught: unknown
    const { driven } = await begun(async ({ step }) => {
      await step
        .run('charge', () => new Promise(() => {}), { timeout: 20, retries: 0 })
        .catch((error: unknown) => {
          caught = error
        })
    })
    await until(() => timers() > 1)

    await vi.advanceTimersByTimeAsync(20)
    await driven

    expect(caught).toBeInstanceOf(StepError)
    expect(caught).toMatchObject({ name: 'TimeoutError', code: 'step_timed_out', step: 'charge', attempts: 1 })
  })

  test.each([
    ['throws', () => Promise.reject(new Error('stopped'))],
    ['returns', () => Promise.resolve('half')],
  ])('counts also when the body %s because its signal fires', async (_name, end) => {
    let hasBegun = false
    const { run, driven } = await begun(({ step }) =>
      step.run(
        'charge',
        ({ signal }) => {
          hasBegun = true
          return new Promise((resolve, reject) => {
            signal.addEventListener('abort', () => void end().then(resolve, reject))
          })
        },
        { timeout: 20, retries: 0 },
      ),
    )
    await until(() => hasBegun)

    await vi.advanceTimersByTimeAsync(20)
    await driven

    expect(run.ended?.error).toMatchObject({ code: 'step_timed_out' })
  })

  test('is asked about like any other error', async () => {
    const asked: unknown[] = []
    const isRetried = (error: unknown) => {
      asked.push(error)
      return false
    }
    const { run, driven } = await begun(({ step }) =>
      step.run('charge', () => new Promise(() => {}), { timeout: 20, retries: { if: isRetried } }),
    )
    await until(() => timers() > 1)

    await vi.advanceTimersByTimeAsync(20)
    await driven

    expect(asked).toEqual([expect.any(TimeoutError)])
    expect(run.types()).toEqual(['run_started', 'step_failed'])
  })

  test('gives the place of the body to the next one', async () => {
    useMovedClock()
    const engine = await anEngine(
      async ({ step }) => {
        const hangs = step.run('hangs', () => new Promise(() => {}), { timeout: 20, retries: 0 }).catch(() => 'gone')
        return Promise.all([hangs, step.run('next', () => 'ran')])
      },
      { concurrency: 1 },
    )
    const run = engine.start('fn')
    const driven = engine.drive(run)
    await until(() => timers() > 1)

    await vi.advanceTimersByTimeAsync(20)
    await driven

    expect(run.ended).toEqual({ output: ['gone', 'ran'] })
  })

  test('may be longer than a timer of the process can be', async () => {
    const spy = vi.spyOn(globalThis, 'setTimeout')
    const engine = await anEngine(({ step }) => step.run('long', () => 'done', { timeout: '60d' }))
    const run = engine.start('fn')

    await engine.drive(run)

    const delays = spy.mock.calls.map(([, ms]) => ms ?? 0)
    spy.mockRestore()
    expect(run.ended).toEqual({ output: 'done' })
    expect(Math.max(...delays)).toBe(2 ** 31 - 1)
  })
})

describe('the heartbeat of a step', () => {
  test('fails an attempt whose body is silent for longer', async () => {
    const beats = aSignal()
    let context: StepContext | undefined
    const { run, driven } = await begun(({ step }) =>
      step.run(
        'import',
        given => {
          context = given
          return beats.promise
        },
        { heartbeat: '10s', retries: 0 },
      ),
    )
    await until(() => context !== undefined)

    for (let beat = 0; beat < 3; beat += 1) {
      await vi.advanceTimersByTimeAsync(9_000)
      context?.heartbeat()
    }
    await vi.advanceTimersByTimeAsync(9_999)
    expect(context?.signal.aborted).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    await driven

    expect(run.ended?.error).toMatchObject({ name: 'TimeoutError', code: 'step_heartbeat_lost' })
    expect(run.ended?.error?.message).toMatch(/^The body of step "import" did not call context.heartbeat\(\) for 10s\./)
  })

  test('does not make a timeout longer', async () => {
    let context: StepContext | undefined
    const { run, driven } = await begun(({ step }) =>
      step.run(
        'import',
        given => {
          context = given
          return new Promise(() => {})
        },
        { heartbeat: '10s', timeout: '15s', retries: 0 },
      ),
    )
    await until(() => context !== undefined)

    await vi.advanceTimersByTimeAsync(9_000)
    context?.heartbeat()
    await vi.advanceTimersByTimeAsync(6_000)
    await driven

    expect(run.ended?.error).toMatchObject({ code: 'step_timed_out' })
  })

  test('may be taken out of the context, and called where none is asked for', async () => {
    const engine = await anEngine(({ step }) =>
      Promise.all([
        step.run('a', ({ heartbeat }) => heartbeat(), { heartbeat: '10s' }),
        step.run('b', ({ heartbeat }) => heartbeat()),
        step.map('c', [1, 2], (item, context) => [item, context.heartbeat()][0], { heartbeat: '10s', timeout: '1m' }),
      ]),
    )
    const run = engine.start('fn')

    await engine.drive(run)

    expect(run.ended).toEqual({ output: [null, null, [1, 2]] })
  })
})

describe('timers of bodies', () => {
  test('are gone when the body has ended, however it ended', async () => {
    const { run, driven } = await begun(async ({ step }) => {
      await step.run('a', () => 1, { timeout: '1h', heartbeat: '1h' })
      await step.run('b', () => Promise.reject(new Error('no')), { timeout: '1h', retries: 0 }).catch(() => {})
      const sync = () => {
        throw new Error('no')
      }
      await step.run('c', sync, { timeout: '1h', retries: 0 }).catch(() => {})
    })
    await driven

    expect(run.ended).toEqual({})
    expect(timers()).toBe(0)
  })

  test('are not there for a step without limits', async () => {
    const counts: number[] = []
    for (const options of [{}, { timeout: '1h' } as const]) {
      const { driven } = await begun(({ step }) => step.run('a', () => void counts.push(timers()), options))
      await driven
      vi.useRealTimers()
    }

    expect((counts[1] ?? 0) - (counts[0] ?? 0)).toBe(1)
  })

  test('keep no process alive', async () => {
    const setTimeoutSpy = vi.spyOn(globalThis, 'setTimeout')
    const end = aSignal()
    const engine = await anEngine(({ step }) => step.run('a', () => end.promise, { timeout: 3_456_789 }))
    const run = engine.start('fn')
    const driven = engine.drive(run)
    const ours = () => setTimeoutSpy.mock.calls.findIndex(([, ms]) => ms === 3_456_789)
    await until(() => ours() !== -1)

    const timer = setTimeoutSpy.mock.results[ours()]?.value as NodeJS.Timeout
    expect(timer.hasRef()).toBe(false)

    end.resolve()
    await driven
    setTimeoutSpy.mockRestore()
  })
})

test.each([
  ['a timeout', { timeout: 'soon' }, /The timeout of step "a".*soon/],
  ['a timeout of 0', { timeout: 0 }, /The timeout of step "a" is 0/],
  ['a heartbeat', { heartbeat: -1 }, /The heartbeat of step "a".*negative/],
])('%s that makes no sense is refused', async (_name, options, message) => {
  const engine = await anEngine(({ step }) => step.run('a', () => 1, options as never))
  const run = engine.start('fn')

  await engine.drive(run)

  expect(run.ended?.error).toMatchObject({ code: 'duration_invalid', message: expect.stringMatching(message) })
})
