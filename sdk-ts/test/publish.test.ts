/** `step.publish`: messages of a run to whoever follows it. */
import { LIMITS } from '@stepwell/protocol'
import { describe, expect, test } from 'vitest'
import type { StepwellError } from '../src/index.ts'
import { anEngine } from './harness.ts'
import { aClient, aProblem, rest } from './rest-double.ts'

const refused = (promise: Promise<unknown>) => promise.catch((error: StepwellError) => error.code)

describe('a message', () => {
  test('is published once, however often the handler is replayed', async () => {
    const engine = await anEngine(async ({ step }) => {
      await step.publish('progress', { percent: 10 })
      await step.sleep('rest', '1h')
      await step.publish('progress', { percent: 100 })
    })

    const run = await engine.drive(engine.start('fn'))

    expect(engine.turns.length).toBeGreaterThan(1)
    expect(run.published).toEqual([
      { channel: 'progress', data: { percent: 10 } },
      { channel: 'progress', data: { percent: 100 } },
    ])
    expect(run.journal.filter(entry => entry.type === 'published')).toMatchObject([
      { key: 'publish:progress', data: { channel: 'progress' } },
      { key: 'publish:progress#2', data: { channel: 'progress' } },
    ])
  })

  test('need not be awaited, and several of a channel keep their order', async () => {
    const engine = await anEngine(({ step }) => {
      for (const n of [1, 2, 3]) void step.publish('log', n)
      return 'done'
    })

    const run = await engine.drive(engine.start('fn'))

    expect(run.ended).toEqual({ output: 'done' })
    expect(run.published.map(({ data }) => data)).toEqual([1, 2, 3])
  })

  test('is published when the handler throws right after it', async () => {
    const engine = await anEngine(({ step }) => {
      void step.publish('log', 'going')
      throw new Error('gone')
    })

    const run = await engine.drive(engine.start('fn'))

    expect(run.ended?.error?.message).toBe('gone')
    expect(run.published.map(({ data }) => data)).toEqual(['going'])
  })

  test('is published when the run goes on anew right after it', async () => {
    const engine = await anEngine(async ({ step, event }) => {
      void step.publish('log', event.name)
      if (event.name === 'test.started') await step.continueAsNew()
    })

    const run = await engine.drive(engine.start('fn'))

    expect(run.generation).toBe(2)
    expect(run.published.map(({ data }) => data)).toEqual(['test.started', 'stepwell.continued'])
  })

  test('is published when the run is cancelled right after it', async () => {
    const engine = await anEngine(async ({ step }) => {
      void step.publish('log', 'asked')
      await step.waitForSignal('never', 'never')
    })
    const run = engine.start('fn')
    run.inbox.push({ type: 'cancel_requested', data: { by: 'request', message: 'enough' } })

    await engine.drive(run)

    expect(run.ended).toEqual({ cancelled: true })
    expect(run.published.map(({ data }) => data)).toEqual(['asked'])
  })

  test.each(['not-holder', 'drop'] as const)('is published when reports do not arrive: %s', async trouble => {
    const engine = await anEngine(({ step }) => {
      for (const n of [1, 2]) void step.publish('log', n)
      return 'done'
    })
    engine.troubles.push(...Array.from({ length: 50 }, () => trouble))

    const run = await engine.drive(engine.start('fn'))

    expect(run.ended).toEqual({ output: 'done' })
    expect(run.published.map(({ data }) => data)).toEqual([1, 2])
  })

  test('of many that nobody awaits is within what a body may hold', async () => {
    const engine = await anEngine(({ step }) => {
      for (let n = 0; n < 100; n += 1) void step.publish('log', 'x'.repeat(60_000))
      return 'y'.repeat(900_000)
    })

    const run = await engine.drive(engine.start('fn'))

    expect(run.published).toHaveLength(100)
    expect(Math.max(...engine.batches.map(batch => JSON.stringify(batch).length))).toBeLessThan(LIMITS.bodyBytes)
  })

  test('of parallel branches is published by each', async () => {
    const engine = await anEngine(async ({ step }) => {
      const branch = async (id: string) => {
        await step.run(id, () => id)
        await step.publish('done', id)
      }
      await Promise.all(['a', 'b', 'c'].map(branch))
    })

    const run = await engine.drive(engine.start('fn'))

    expect(run.published.map(({ data }) => data).sort()).toEqual(['a', 'b', 'c'])
  })

  test('is recorded when its promise resolves', async () => {
    let published = -1
    const engine = await anEngine(async ({ step }) => {
      const given: unknown = await step.publish('progress')
      published = run.published.length
      return given === undefined
    })
    const run = engine.start('fn')

    await engine.drive(run)

    expect(published).toBe(1)
    expect(run.published).toEqual([{ channel: 'progress', data: null }])
    expect(run.ended).toEqual({ output: true })
  })
})

describe('a message is refused', () => {
  test.each([
    ['', 'channel_invalid'],
    ['a\nb', 'channel_invalid'],
    ['stepwell.end', 'channel_invalid'],
    ['x'.repeat(129), 'channel_invalid'],
    [7 as never, 'channel_invalid'],
  ])('on the channel %j', async (channel, code) => {
    const engine = await anEngine(({ step }) => refused(step.publish(channel, 1)))

    expect((await engine.drive(engine.start('fn'))).ended).toEqual({ output: code })
  })

  test('when it is too large, and one that just fits is not', async () => {
    const engine = await anEngine(async ({ step }) => {
      await step.publish('big', 'x'.repeat(LIMITS.publishBytes - 2))
      return refused(step.publish('big', 'x'.repeat(LIMITS.publishBytes - 1)))
    })

    const run = await engine.drive(engine.start('fn'))

    expect(run.ended).toEqual({ output: 'publish_too_large' })
    expect(run.published).toHaveLength(1)
  })

  test('when it is no JSON', async () => {
    const engine = await anEngine(({ step }) => refused(step.publish('log', { at: 1n })))

    expect((await engine.drive(engine.start('fn'))).ended).toEqual({ output: 'value_not_json' })
  })

  test('inside the body of a step', async () => {
    const engine = await anEngine(({ step }) =>
      step.run('outer', () => refused(step.publish('log', 1)), { retries: { limit: 0 } }),
    )

    expect((await engine.drive(engine.start('fn'))).ended?.error?.code).toBe('nested_step')
  })
})

test('a step cannot have an id that begins as those of messages', async () => {
  const engine = await anEngine(({ step }) => refused(step.run('publish:progress', () => 1)))

  expect((await engine.drive(engine.start('fn'))).ended).toEqual({ output: 'step_id_invalid' })
})

describe('a token for a page', () => {
  test('is asked for with channels and a time to live', async () => {
    rest.answers = [{ status: 201, body: { token: 't', expiresAt: '2026-01-01T00:00:00.000Z' } }]

    const token = await aClient().createStreamToken('run_1', { channels: ['progress'], ttl: '1h' })

    expect(token).toEqual({ token: 't', expiresAt: '2026-01-01T00:00:00.000Z' })
    expect(rest.received[0]).toMatchObject({ method: 'POST', path: '/v1/runs/run_1/tokens' })
    expect(JSON.parse(rest.received[0]?.body ?? '')).toEqual({ channels: ['progress'], ttlMs: 3_600_000 })
  })

  test('of a run that is not there is refused', async () => {
    rest.answers = [aProblem(404, 'run_not_found')]

    await expect(aClient().createStreamToken('run_1')).rejects.toMatchObject({ code: 'run_not_found' })
    expect(rest.received[0]?.body).toBe('{}')
  })
})
