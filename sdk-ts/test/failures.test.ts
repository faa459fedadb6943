import { describe, expect, test } from 'vitest'
import { NonRetriableError, RetryAfterError, StepError } from '../src/index.ts'
import { anApp, anEngine, type Handler } from './harness.ts'

/** What the handler's `catch` saw. */
async function caughtBy(body: () => unknown, retries = 0): Promise<unknown> {
  const caught: unknown[] = []
  const engine = await anEngine(async ({ step }) => {
    await step.run('charge', body, { retries }).catch((error: unknown) => caught.push(error))
  })
  await engine.drive(engine.start('fn'))
  return caught.at(-1)
}

describe('a step that fails', () => {
  test('is tried four times, with growing delays, by default', async () => {
    const engine = await anEngine(({ step }) =>
      step.run('charge', () => {
        throw new Error('no')
      }),
    )

    const run = await engine.drive(engine.start('fn'))

    const attempts = run.journal.filter(entry => entry.type === 'step_retrying' || entry.type === 'step_failed')
    expect(
      attempts.map(entry => 'data' in entry && entry.data && 'attempt' in entry.data && entry.data.attempt),
    ).toEqual([1, 2, 3, 4])
    const ops = engine.batches.flatMap(batch => batch.reports.flatMap(report => report.ops))
    expect(ops[0]).toMatchObject({ retry: { maxAttempts: 4, minDelayMs: 1_000, maxDelayMs: 3_600_000 } })
    expect(run.ended?.error).toMatchObject({ name: 'Error', message: 'no' })
  })

  test('follows the retries of its function, and its own before those', async () => {
    const engine = await anEngine(
      async ({ step }) => {
        const fail = () => {
          throw new Error('no')
        }
        await step.run('by-function', fail).catch(() => {})
        await step.run('by-number', fail, { retries: 0 }).catch(() => {})
        const own = { limit: 1, minDelay: '5s', maxDelay: '1m' } as const
        await step.run('by-policy', fail, { retries: own }).catch(() => {})
      },
      { retries: 2 },
    )

    await engine.drive(engine.start('fn'))

    const ops = engine.batches.flatMap(batch => batch.reports.flatMap(report => report.ops))
    const policyOf = (key: string) => ops.find(op => op.op === 'step' && op.key === key)
    expect(policyOf('by-function')).toMatchObject({ retry: { maxAttempts: 3 } })
    expect(policyOf('by-number')).toMatchObject({ retry: { maxAttempts: 1 } })
    expect(policyOf('by-policy')).toMatchObject({ retry: { maxAttempts: 2, minDelayMs: 5_000, maxDelayMs: 60_000 } })
  })

  test('is not tried again after a NonRetriableError', async () => {
    let count = 0
    const error = await caughtBy(() => {
      count += 1
      throw new NonRetriableError('card stolen', { cause: new TypeError('why') })
    }, 5)

    expect(count).toBe(1)
    expect(error).toMatchObject({ name: 'NonRetriableError', message: 'card stolen', attempts: 1, step: 'charge' })
    expect((error as Error).cause).toMatchObject({ name: 'TypeError', message: 'why' })
  })

  test.each([
    ['a duration', () => '90s' as const, 90_000],
    ['a Date', () => new Date(Date.now() + 60_000), 60_000],
    ['a Date in the past', () => new Date(0), 0],
  ])('waits as long as a RetryAfterError says: %s', async (_name, delay, expectedMs) => {
    const engine = await anEngine(({ step }) =>
      step.run('charge', ({ attempt }) => {
        if (attempt === 1) throw new RetryAfterError('busy', delay())
        return attempt
      }),
    )

    const run = await engine.drive(engine.start('fn'))

    const [op] = engine.batches[0]?.reports[0]?.ops ?? []
    const afterMs = op?.op === 'step' ? (op.retry?.afterMs ?? -1) : -1
    expect(Math.abs(afterMs - expectedMs)).toBeLessThan(1_000)
    expect(run.ended).toEqual({ output: 2 })
  })

  test('throws a StepError that looks like the original, on every replay', async () => {
    class CardError extends Error {
      override readonly name = 'CardError'
      readonly code = 'card_declined'
    }
    const seen: StepError[] = []
    const engine = await anEngine(async ({ step }) => {
      try {
        await step.run(
          'charge',
          () => {
            throw new CardError('declined', { cause: { message: 'low funds', name: 'Bank' } })
          },
          { retries: 0 },
        )
      } catch (error) {
        seen.push(error as StepError)
      }
      await step.sleep('rest', '1s')
    })

    await engine.drive(engine.start('fn'))

    expect(seen).toHaveLength(2)
    for (const error of seen) {
      expect(error).toBeInstanceOf(StepError)
      expect(error).toMatchObject({ name: 'CardError', message: 'declined', code: 'card_declined', step: 'charge' })
      expect(error).toMatchObject({ attempts: 1, cause: { name: 'Bank', message: 'low funds' } })
      expect(error.stack).toContain('failures.test.ts')
    }
  })

  test.each([
    ['a text', 'broken', 'broken'],
    ['undefined', undefined, 'undefined was thrown'],
    ['null', null, 'null was thrown'],
    ['a number', 42, '42 was thrown'],
    ['a plain object', { reason: 'x' }, '{"reason":"x"}'],
  ])('may throw what is no Error: %s', async (_name, thrown, message) => {
    const error = await caughtBy(() => {
      throw thrown
    })

    expect(error).toMatchObject({ name: 'NonError', message })
  })

  test('may throw what cannot even be read', async () => {
    const error = await caughtBy(() => {
      throw new Proxy(
        {},
        {
          get: () => {
            throw new Error('no')
          },
          has: () => {
            throw new Error('no')
          },
        },
      )
    })

    expect(error).toMatchObject({ name: 'NonError' })
  })

  test('keeps its errors within the limits of the wire', async () => {
    let deep = new Error('innermost')
    for (let depth = 0; depth < 50; depth += 1) deep = new Error('x'.repeat(100_000), { cause: deep })
    const error = (await caughtBy(() => {
      throw deep
    })) as Error

    let depth = 0
    for (let cause = error.cause; cause !== undefined; cause = (cause as Error).cause) depth += 1
    expect(error.message.length).toBe(16 * 1024)
    expect(depth).toBe(8)
  })

  test('lets the run fail with its own error when the handler does not catch it', async () => {
    const engine = await anEngine(({ step }) =>
      step.run(
        'charge',
        () => {
          throw Object.assign(new RangeError('too much'), { code: 'E_MUCH' })
        },
        { retries: 0 },
      ),
    )

    const run = await engine.drive(engine.start('fn'))

    expect(run.ended?.error).toMatchObject({ name: 'RangeError', message: 'too much', code: 'E_MUCH' })
  })
})

describe('a misuse', () => {
  async function failureOf(handler: Handler): Promise<{ code?: string; message: string }> {
    const engine = await anEngine(handler)
    const run = await engine.drive(engine.start('fn'))
    return run.ended?.error ?? { message: `no error, but ${JSON.stringify(run.ended)}` }
  }

  test('a step inside a step body names both steps', async () => {
    const error = await failureOf(({ step }) => step.run('outer', () => step.run('inner', () => 1)))

    expect(error.code).toBe('nested_step')
    expect(error.message).toMatch(/"inner".*"outer"/)
  })

  test('a step inside a step body is found after an await, and when the body does not await it', async () => {
    const error = await failureOf(({ step }) =>
      step.run('outer', async () => {
        await new Promise(resolve => setImmediate(resolve))
        void step.run('inner', () => 1)
        return 'fine'
      }),
    )

    expect(error.code).toBe('nested_step')
  })

  test('a body that starts a step of another run is none', async () => {
    const other = await anEngine(({ step }) => step.run('theirs', () => 1))
    const engine = await anEngine(({ step }) =>
      step.run('mine', async () => (await other.drive(other.start('fn'))).ended),
    )

    const run = await engine.drive(engine.start('fn'))

    expect(run.ended).toEqual({ output: { output: 1 } })
  })

  test('the same id twice at a time names the id', async () => {
    const error = await failureOf(({ step }) => Promise.all([step.run('charge', () => 1), step.run('charge', () => 2)]))

    expect(error).toMatchObject({ code: 'duplicate_step', message: expect.stringContaining('"charge"') })
  })

  test('the same id one after the other is none', async () => {
    const engine = await anEngine(async ({ step }) => [await step.run('a', () => 1), await step.run('a', () => 2)])

    const run = await engine.drive(engine.start('fn'))

    expect(run.ended).toEqual({ output: [1, 2] })
  })

  test.each<[string, Handler, string, RegExp]>([
    ['an empty id', ({ step }) => step.run('', () => 1), 'step_id_invalid', /is empty/],
    ['an id that is no text', ({ step }) => step.run(7 as never, () => 1), 'step_id_invalid', /must be a string/],
    ['an id with a number', ({ step }) => step.sleep('a#2', 1), 'step_id_invalid', /a#2/],
    ['a duration', ({ step }) => step.sleep('rest', '2 days' as never), 'duration_invalid', /rest.*2 days/],
    ['an instant', ({ step }) => step.sleepUntil('rest', 'tomorrow'), 'duration_invalid', /rest.*tomorrow/],
    ['an instant too far away', ({ step }) => step.sleepUntil('rest', 8e15), 'duration_invalid', /rest/],
    [
      'a match of undefined',
      ({ step }) => step.waitForEvent('w', { event: 'e', match: { id: undefined as never } }),
      'match_invalid',
      /"id" is undefined/,
    ],
    [
      'a match of an object',
      ({ step }) => step.waitForEvent('w', { event: 'e', match: { id: {} as never } }),
      'match_invalid',
      /"id"/,
    ],
    [
      'a wait without an event',
      ({ step }) => step.waitForEvent('w', {} as never),
      'match_invalid',
      /"w".*name of an event/,
    ],
    [
      'a time-out',
      ({ step }) => step.waitForEvent('w', { event: 'e', timeout: 'soon' as never }),
      'duration_invalid',
      /"w".*soon/,
    ],
    ['retries', ({ step }) => step.run('a', () => 1, { retries: -1 }), 'retries_invalid', /step "a".*-1/],
    [
      'delays of retries',
      ({ step }) => step.run('a', () => 1, { retries: { minDelay: '1m', maxDelay: '1s' } }),
      'retries_invalid',
      /step "a".*minDelay/,
    ],
    [
      'event data',
      ({ step }) => step.sendEvent('s', { name: 'e', data: { at: new Map() } }),
      'value_not_json',
      /\$\.at.*Map/,
    ],
    ['an event without a name', ({ step }) => step.sendEvent('s', { data: 1 } as never), 'body_invalid', /name/],
    [
      'too many events',
      ({ step }) =>
        step.sendEvent(
          's',
          Array.from({ length: 1_001 }, () => ({ name: 'e' })),
        ),
      'too_many_events',
      /1001/,
    ],
    [
      'a large event',
      ({ step }) => step.sendEvent('s', { name: 'e', data: 'x'.repeat(1_100_000) }),
      'event_too_large',
      /"e"/,
    ],
    [
      'large events',
      ({ step }) =>
        step.sendEvent(
          's',
          Array.from({ length: 5 }, () => ({ name: 'e', data: 'x'.repeat(1_000_000) })),
        ),
      'body_too_large',
      /several calls/,
    ],
  ])('of arguments is named: %s', async (_name, handler, code, message) => {
    const error = await failureOf(handler)

    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
  })

  test('a step without a body is named', async () => {
    const error = await failureOf(({ step }) => step.run('charge', undefined as never))

    expect(error.message).toContain('Step "charge" has no body')
  })

  test('a handler that neither ends nor asks is refused when the budget is used up', async () => {
    const engine = await anEngine(async ({ step }) => {
      await step.run('a', () => 1)
      await new Promise(() => {})
    })

    const report = await engine.turn(engine.start('fn'), { budgetMs: 30 })

    expect(report).toMatchObject({ state: 'refused', ops: [], error: { code: 'handler_stalled' } })
    expect(report.error?.message).toMatch(/"fn".*30ms/)
  })

  test('steps removed, renamed or changed in kind under a running run are refused, with both sides named', async () => {
    const engine = await anEngine(async ({ step }) => {
      await step.run('charge', () => 1)
      await step.waitForEvent('paid', { event: 'order.paid', match: { id: 1 } })
    })
    const run = engine.start('fn')
    await engine.turn(run)
    const bodies: string[] = []
    const changed: [Handler, RegExp][] = [
      [
        ({ step }) => step.run('charge-card', () => bodies.push('ran')),
        /step\.run under the key "charge".*but for "charge-card"/,
      ],
      [({ step }) => step.sleep('charge', 1), /step\.run under the key "charge".*asks for step\.sleep/],
      [() => 'nothing', /"charge".*does not ask for it/],
      [
        async ({ step }) => {
          await step.run('charge', () => 1)
          await step.waitForEvent('paid', { event: 'order.paid', match: { id: 2 } })
        },
        /"order\.paid" with match \{"id":1\}.*"order\.paid" with match \{"id":2\}/,
      ],
    ]

    for (const [handler, message] of changed) {
      engine.deploy(anApp(handler))
      const report = await engine.turn(run)

      expect(report).toMatchObject({ state: 'refused', ops: [], error: { code: 'journal_mismatch' } })
      expect(report.error?.message).toMatch(message)
      expect(report.error?.message).toContain('give the changed function a new id')
    }
    expect(bodies).toEqual([])
  })
})
