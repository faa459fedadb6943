import { describe, expect, test } from 'vitest'
import { anApp, anEngine, type Handler } from './harness.ts'

/** In UTC it is still the year before the first. */
const YEAR_0 = '0001-01-01T00:00:00+01:00'

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

  test('a step that a body starts after its end is one too', async () => {
    const refused: Promise<unknown>[] = []
    const engine = await anEngine(async ({ step }) => {
      await step.run('outer', () => {
        setImmediate(() => refused.push(step.run('late', () => 1)))
      })
      await step.run('next', () => new Promise(resolve => setTimeout(resolve, 20)))
    })

    const run = await engine.drive(engine.start('fn'))

    await expect(refused[0]).rejects.toMatchObject({ code: 'nested_step' })
    expect(run.ended).toEqual({})
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
      'an instant in years',
      ({ step }) => step.sleepUntil('rest', '2999-01-01T00:00:00Z'),
      'duration_invalid',
      /366 days/,
    ],
    ['an instant of the year 0', ({ step }) => step.sleepUntil('rest', YEAR_0), 'duration_invalid', /rest.*0001-01-01/],
    [
      'an instant of no calendar',
      ({ step }) => step.sleepUntil('rest', '2026-02-31T00:00:00Z'),
      'duration_invalid',
      /rest.*2026-02-31/,
    ],
    ['a Date of the year 0', ({ step }) => step.sleepUntil('rest', new Date(YEAR_0)), 'duration_invalid', /rest.*Date/],
    [
      'the time of an event',
      ({ step }) => step.sendEvent('s', { name: 'e', ts: YEAR_0 }),
      'body_invalid',
      /"s".*ts of event "e"/,
    ],
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
      'a delay of retries',
      ({ step }) => step.run('a', () => 1, { retries: { minDelay: '1 sec' as never } }),
      'retries_invalid',
      /step "a".*1 sec.*[^.]\.$/,
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
      [
        ({ step }) => step.sleep('charge', 1).then(() => bodies.push('went on')),
        /step\.run under the key "charge".*asks for step\.sleep/,
      ],
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
      expect(report.error?.message).toContain('give the changed function a new version')
    }
    expect(bodies).toEqual([])
  })
})
