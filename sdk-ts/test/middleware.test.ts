/** What stands around turns and around the bodies of steps. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { type BodyInfo, type Middleware, NonRetriableError, StepwellClient, type TurnInfo } from '../src/index.ts'
import { anApp, anEngine, type Handler, THREE_STEPS } from './harness.ts'

afterEach(() => void vi.restoreAllMocks())

/** Notes when it is entered and left. */
function noting(name: string, notes: string[]): Middleware {
  return {
    name,
    async turn(_context, next) {
      notes.push(`${name} turn`)
      await next()
      notes.push(`${name} turn ended`)
    },
    async step({ key }, next) {
      notes.push(`${name} ${key}`)
      const value = await next()
      notes.push(`${name} ${key} ended`)
      return value
    },
  }
}

test('the first of a list is the outermost', async () => {
  const notes: string[] = []
  const engine = await anEngine(({ step }) => step.run('a', () => void notes.push('body')), {
    middleware: [noting('outer', notes), noting('inner', notes)],
  })

  await engine.drive(engine.start('fn'))

  expect(notes).toEqual([
    'outer turn',
    'inner turn',
    'outer a',
    'inner a',
    'body',
    'inner a ended',
    'outer a ended',
    'inner turn ended',
    'outer turn ended',
  ])
})

test('the parts of a middleware are called as its methods', async () => {
  const counting = {
    count: 0,
    async step(_context: BodyInfo, next: () => Promise<unknown>) {
      this.count += 1
      return next()
    },
  }
  const engine = await anEngine(THREE_STEPS, { middleware: [counting] })

  await engine.drive(engine.start('fn'))

  expect(counting.count).toBe(3)
})

describe('around a turn', () => {
  const napping: Handler = async ({ step }) => {
    await step.sleep('nap', '1s')
    return 'awake'
  }

  test('it is told which one it is, and whether the handler has been here before', async () => {
    const seen: TurnInfo[] = []
    const turn: Middleware['turn'] = (context, next) => {
      seen.push(context)
      return next()
    }
    const engine = await anEngine(napping, { middleware: [{ turn }] })

    await engine.drive(engine.start('fn'))

    const of = { function: 'fn', run: { id: 'run_1', generation: 1 } }
    expect(seen).toEqual([
      { ...of, turn: 1, isReplay: false },
      { ...of, turn: 2, isReplay: true },
    ])
  })

  test('what it sets up is there for the handler and the bodies', async () => {
    const storage = new AsyncLocalStorage<string>()
    const seen: unknown[] = []
    const engine = await anEngine(
      async ({ step }) => {
        seen.push(storage.getStore())
        await step.run('a', () => void seen.push(storage.getStore()))
        seen.push(storage.getStore())
      },
      { middleware: [{ turn: (_context, next) => storage.run('set up', next) }] },
    )

    await engine.drive(engine.start('fn'))

    expect(seen).toEqual(['set up', 'set up', 'set up'])
  })

  test('when it throws first, the turn is refused and the run is as it was', async () => {
    let isDown = true
    const gate: Middleware = {
      name: 'gate',
      async turn(_context, next) {
        if (isDown) throw new Error('the vault is shut')
        await next()
      },
    }
    const engine = await anEngine(THREE_STEPS, { middleware: [gate] })
    const run = engine.start('fn')

    const report = await engine.turn(run)
    expect(report).toMatchObject({ state: 'refused', ops: [], error: { message: 'the vault is shut' } })

    isDown = false
    await engine.drive(run)
    expect(run.ended).toEqual({ output: 'abc' })
  })

  test('when it throws afterwards, that is logged and the turn counts', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const turn: Middleware['turn'] = async (_context, next) => {
      await next()
      throw new Error('too late')
    }
    const engine = await anEngine(THREE_STEPS, { middleware: [{ turn }] })
    const run = engine.start('fn')

    await engine.drive(run)

    expect(run.ended).toEqual({ output: 'abc' })
    expect(log).toHaveBeenCalledWith(expect.stringContaining('run_1'), expect.objectContaining({ message: 'too late' }))
  })

  test('when it does not wait, the turn is executed and answered all the same', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const turn: Middleware['turn'] = async (_context, next) => void next()
    const engine = await anEngine(THREE_STEPS, { middleware: [{ name: 'hasty', turn }] })
    const run = engine.start('fn')

    await engine.drive(run)

    expect(run.ended).toEqual({ output: 'abc' })
    expect(log.mock.calls[0]?.[1]).toMatchObject({ code: 'middleware_failed' })
  })

  test('when it leaves the turn out, the turn is refused', async () => {
    const engine = await anEngine(THREE_STEPS, { middleware: [{ name: 'lazy', turn: async () => {} }] })

    const report = await engine.turn(engine.start('fn'))

    const message = 'Middleware "lazy" did not await next() of a turn. Await it, once.'
    expect(report).toMatchObject({ state: 'refused', error: { code: 'middleware_failed', message } })
  })
})

describe('around a body', () => {
  test('it is told which execution of which step it is', async () => {
    const seen: BodyInfo[] = []
    const step: Middleware['step'] = (context, next) => {
      seen.push(context)
      return next()
    }
    const engine = await anEngine(
      ({ step }) =>
        step.run('charge', ({ attempt }) => {
          if (attempt === 1) throw new Error('busy')
        }),
      { middleware: [{ step }] },
    )

    await engine.drive(engine.start('fn'))

    const of = { key: 'charge', function: 'fn', run: { id: 'run_1', generation: 1 } }
    expect(seen).toEqual([
      { ...of, attempt: 1 },
      { ...of, attempt: 2 },
    ])
  })

  test('it does not run for steps that are recorded', async () => {
    const step = vi.fn((_context: BodyInfo, next: () => Promise<unknown>) => next())
    const engine = await anEngine(
      async ({ step }) => {
        await step.run('a', () => 1)
        await step.sleep('nap', '1s')
      },
      { middleware: [{ step }] },
    )

    await engine.drive(engine.start('fn'))

    expect(engine.turns).toHaveLength(2)
    expect(step).toHaveBeenCalledTimes(1)
  })

  test('it sees what the body gave, and that is recorded whatever it returns', async () => {
    let seen: unknown
    const step: Middleware['step'] = async (_context, next) => {
      seen = await next()
      return 'something else'
    }
    const engine = await anEngine(({ step }) => step.run('a', () => 'given'), { middleware: [{ step }] })
    const run = await engine.drive(engine.start('fn'))

    expect(seen).toBe('given')
    expect(run.ended).toEqual({ output: 'given' })
  })

  test('it cannot swallow what the body threw', async () => {
    const step: Middleware['step'] = (_context, next) => next().catch(() => 'fine')
    const engine = await anEngine(({ step }) => step.run('a', () => Promise.reject(new Error('no')), { retries: 0 }), {
      middleware: [{ step }],
    })
    const run = await engine.drive(engine.start('fn'))

    expect(run.ended?.error).toMatchObject({ message: 'no' })
  })

  test('what it throws fails the attempt, and says how it wants to be retried', async () => {
    let isFirst = true
    const step: Middleware['step'] = async (_context, next) => {
      if (isFirst) {
        isFirst = false
        throw new Error('not yet')
      }
      await next()
      throw new NonRetriableError('no further')
    }
    const body = vi.fn()
    const engine = await anEngine(({ step }) => step.run('a', body), { middleware: [{ step }] })
    const run = await engine.drive(engine.start('fn'))

    expect(body).toHaveBeenCalledTimes(1)
    expect(run.journal.map(entry => entry.type)).toEqual(['run_started', 'step_retrying', 'step_due', 'step_failed'])
    expect(run.ended?.error).toMatchObject({ name: 'NonRetriableError' })
  })

  test.each([
    ['does not call next', async () => 'mine', /"wrong" did not await next\(\) of a step/],
    [
      'does not wait',
      async (_context: BodyInfo, next: () => Promise<unknown>) => void next(),
      /did not await next\(\)/,
    ],
    [
      'calls next twice',
      async (_context: BodyInfo, next: () => Promise<unknown>) => [await next(), await next()],
      /"wrong" called next\(\) of a step a second time/,
    ],
  ])('one that %s fails the attempt', async (_name, step, message) => {
    const body = vi.fn(() => new Promise(resolve => setImmediate(resolve)))
    const engine = await anEngine(({ step }) => step.run('a', body, { retries: 0 }), {
      middleware: [{ name: 'wrong', step }],
    })
    const run = await engine.drive(engine.start('fn'))

    expect(run.ended?.error).toMatchObject({ code: 'middleware_failed', message: expect.stringMatching(message) })
    expect(body.mock.calls.length).toBeLessThan(2)
  })

  test('it is within the time-out of the step', async () => {
    const engine = await anEngine(({ step }) => step.run('a', () => 1, { timeout: 5, retries: 0 }), {
      middleware: [{ step: () => new Promise(() => {}) }],
    })
    const run = await engine.drive(engine.start('fn'))

    expect(run.ended?.error).toMatchObject({ code: 'step_timed_out' })
  })
})

describe('a list of middleware', () => {
  test.each([
    ['no list', {}, /The middleware of serve is no list/],
    ['nothing in it', [null], /middleware\[0\] of serve is no object/],
    ['a part that is no function', [{ name: 'm', step: true }], /"step" of middleware "m" of serve is no function/],
  ])('that is wrong is refused: %s', (_name, middleware, message) => {
    expect(() => anApp(THREE_STEPS, { middleware: middleware as never })).toThrow(message)
  })

  test('is checked by clients too', () => {
    expect(() => new StepwellClient({ middleware: [1] as never })).toThrow(/middleware\[0\] of the client is no object/)
  })

  test('may be empty', async () => {
    const engine = await anEngine(THREE_STEPS, { middleware: [] })
    const run = await engine.drive(engine.start('fn'))

    expect(run.ended).toEqual({ output: 'abc' })
  })
})
