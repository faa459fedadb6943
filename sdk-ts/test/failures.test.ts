import { describe, expect, test } from 'vitest'
import { NonRetriableError, RetryAfterError, StepError } from '../src/index.ts'
import { anEngine } from './harness.ts'

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
