import { setTimeout as pause } from 'node:timers/promises'
import { createFunction, NonRetriableError, RetryAfterError, StepError } from '@stepwell/sdk'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { startSystem, type TestSystem } from '../support/system.ts'
import { waitUntil } from '../support/wait-until.ts'

let system: TestSystem
beforeAll(async () => {
  system = await startSystem()
})
afterAll(() => system.stop())
afterEach(async () => {
  expect(await system.brokenInvariants()).toEqual([])
})

const FAST = { limit: 3, minDelay: 5, maxDelay: 20 }

test('an event starts a run whose steps are recorded in order and whose result is readable', async () => {
  const order = createFunction<{ ordered: { n: number } }>({
    id: 'order',
    trigger: { event: 'ordered' },
    handler: async ({ event, step }) => {
      const doubled = await step.run('double', () => event.data.n * 2)
      const added = await step.run('add', () => doubled + 1)
      return { added }
    },
  })
  await system.serveApp([order])

  const run = await system.runToEnd({ name: 'ordered', data: { n: 20 } })

  expect(run).toMatchObject({
    function: 'order',
    state: 'completed',
    output: { added: 41 },
    error: null,
    waitingFor: null,
    attempts: 2,
    generation: 1,
  })
  const journal = await system.journal(run.id)
  expect(journal.map(({ seq, type }) => [seq, type])).toEqual([
    [1, 'run_started'],
    [2, 'step_completed'],
    [3, 'step_completed'],
  ])
})

test('values come back equal: falsy ones, deep ones, a mebibyte, unicode', async () => {
  let deep: unknown = 'bottom'
  for (let n = 0; n < 200; n += 1) deep = { deeper: [deep] }
  const values: Record<string, unknown> = {
    zero: 0,
    empty: '',
    no: false,
    nothing: null,
    absent: undefined,
    list: [],
    deep,
    mebibyte: 'x'.repeat(1024 * 1024),
    text: 'ä 日本 😀 \u0000 \u2028 " \\ { } lone \ud800',
    'schlüssel 😀 "{}\\': 1,
  }
  const seen: Record<string, unknown> = {}
  const replayed: Record<string, unknown> = {}
  const values1 = createFunction({
    id: 'values',
    trigger: { event: 'values' },
    handler: async ({ step }) => {
      const into = Object.keys(seen).length < Object.keys(values).length ? seen : replayed
      for (const [name, value] of Object.entries(values)) into[name] = await step.run(`give ${name}`, () => value)
      await step.sleep('replay all of it', 1)
      return values.text
    },
  })
  await system.serveApp([values1])

  const run = await system.runToEnd({ name: 'values', data: { text: values.text } as never })

  expect(run.state).toBe('completed')
  expect(run.output).toBe(values.text)
  expect(seen).toEqual(values)
  expect(replayed).toEqual(values)
  expect((await system.journal(run.id))[0]).toMatchObject({ data: { data: { text: values.text } } })
})

test('a step is tried four times by default, and its error is the handler’s to catch', async () => {
  const attempts: number[] = []
  const failing = createFunction({
    id: 'failing',
    trigger: { event: 'failing' },
    retries: FAST,
    handler: async ({ step }) => {
      try {
        await step.run('always fails', ({ attempt }) => {
          attempts.push(attempt)
          throw new TypeError('no luck', { cause: new Error('the real reason') })
        })
        return 'unreachable'
      } catch (error) {
        const { name, message, cause } = error as StepError
        return { isStepError: error instanceof StepError, name, message, cause: (cause as Error).message }
      }
    },
  })
  await system.serveApp([failing])

  const run = await system.runToEnd({ name: 'failing' })

  expect(attempts).toEqual([1, 2, 3, 4])
  expect(run.output).toEqual({ isStepError: true, name: 'TypeError', message: 'no luck', cause: 'the real reason' })
  expect(run.attempts).toBe(4)
})

test('a run fails with the error that left its handler, and says so', async () => {
  const fatal = createFunction({
    id: 'fatal',
    trigger: { event: 'fatal' },
    handler: async ({ step }) => {
      await step.run('give up', () => {
        throw new NonRetriableError('card stolen')
      })
    },
  })
  await system.serveApp([fatal])

  const run = await system.runToEnd({ name: 'fatal' })

  expect(run).toMatchObject({ state: 'failed', output: null, attempts: 1, error: { message: 'card stolen' } })
})

test('a step that says when to try again is tried then', async () => {
  const at: number[] = []
  const later = createFunction({
    id: 'later',
    trigger: { event: 'later' },
    handler: async ({ step }) =>
      step.run('wait a bit', () => {
        at.push(performance.now())
        if (at.length === 1) throw new RetryAfterError('busy', 150)
        return 'done'
      }),
  })
  await system.serveApp([later])

  const run = await system.runToEnd({ name: 'later' })

  expect(run.output).toBe('done')
  expect((at[1] ?? 0) - (at[0] ?? 0)).toBeGreaterThanOrEqual(149)
})

test('parallel steps all run, and a race has the same winner on every replay', async () => {
  const winners: unknown[] = []
  const racing = createFunction({
    id: 'racing',
    trigger: { event: 'racing' },
    handler: async ({ step }) => {
      const all = await Promise.all([1, 2, 3].map(n => step.run(`part ${n}`, () => n)))
      const winner = await Promise.race([
        step.run('slow', () => pause(60, 'slow')),
        step.run('quick', () => pause(5, 'quick')),
        step.sleep('nap', 30).then(() => 'nap'),
      ])
      winners.push(winner)
      // longer than the slow step, so that each ends the turn
      await step.sleep('replay', 1_500)
      await step.sleep('replay again', 50)
      return { all, winner }
    },
  })
  await system.serveApp([racing])

  const run = await system.runToEnd({ name: 'racing' })

  expect(run.output).toEqual({ all: [1, 2, 3], winner: 'quick' })
  expect(new Set(winners)).toEqual(new Set(['quick']))
  expect(winners.length).toBeGreaterThan(2)
})

test('a race against time is decided when the time is over, not when the slow step ends', async () => {
  const timed = createFunction({
    id: 'timed',
    trigger: { event: 'timed' },
    handler: async ({ step }) =>
      Promise.race([
        step.run('slow', ({ signal }) => pause(5_000, 'slow', { signal })),
        step.sleep('limit', 200).then(() => 'too slow'),
      ]),
  })
  await system.serveApp([timed])

  const run = await system.runToEnd({ name: 'timed' })

  expect(run.output).toBe('too slow')
  expect(Date.parse(run.finishedAt ?? '') - Date.parse(run.createdAt)).toBeLessThan(1_500)
})

test('losers of a race do not keep the run alive', async () => {
  const race = createFunction({
    id: 'losers',
    trigger: { event: 'losers' },
    handler: async ({ step }) =>
      Promise.race([
        step.run('winner', () => 'won'),
        step.sleep('a year', '365d'),
        step.waitForEvent('never', { event: 'never', timeout: '300d' }),
      ]),
  })
  await system.serveApp([race])

  const run = await system.runToEnd({ name: 'losers' })

  expect(run.output).toBe('won')
  const [left] = await system.engine.pools.read<{ waits: number }[]>`
    select count(*)::int as waits from stepwell.waits where run_id = ${system.uuidOf(run.id)}`
  expect(left?.waits).toBe(0)
})

test('events that a step sends start runs once, in the transaction that records them', async () => {
  const told: unknown[] = []
  const tell = createFunction({
    id: 'tell',
    trigger: { event: 'tell' },
    handler: async ({ step }) => {
      const sent = await step.sendEvent('spread', [
        { name: 'told', data: { n: 1 } },
        { name: 'told', data: { n: 2 } },
      ])
      await step.sleep('replay', 1)
      return sent
    },
  })
  const listen = createFunction<{ told: { n: number } }>({
    id: 'listen',
    trigger: { event: 'told' },
    handler: async ({ event, step }) => step.run('hear', () => void told.push(event.data.n)),
  })
  await system.serveApp([tell, listen])

  const run = await system.runToEnd({ name: 'tell' })

  expect(run.state).toBe('completed')
  await waitUntil('both were heard', () => told.length === 2)
  expect([...told].sort()).toEqual([1, 2])
})

test('a run of 1,000 steps, and one of 500 parallel steps', async () => {
  const many = createFunction({
    id: 'many',
    trigger: { event: 'many' },
    handler: async ({ step }) => {
      let sum = 0
      for (let n = 0; n < 1_000; n += 1) sum += await step.run('add', () => n)
      const wide = await Promise.all(Array.from({ length: 500 }, (_, n) => step.run(`wide ${n}`, () => n)))
      return { sum, wide: wide.length }
    },
  })
  await system.serveApp([many])

  const run = await system.runToEnd({ name: 'many' })

  expect(run).toMatchObject({ state: 'completed', output: { sum: 499_500, wide: 500 }, attempts: 1_500 })
})

test('a handler that changed under a running run waits, says which step, and goes on when it is put back', async () => {
  const version = (name: string) =>
    createFunction({
      id: 'changing',
      trigger: { event: 'changing' },
      handler: async ({ step }) => {
        await step.run(name, () => 1)
        await step.sleep('nap', 400)
        return step.run('end', () => 2)
      },
    })
  await system.serveApp([version('charge')])
  const [sent] = await system.client.send({ name: 'changing' })
  const id = sent?.runs[0] ?? ''
  await system.waitForState(id, 'waiting')
  await system.serveApp([version('charge-card')])

  await waitUntil('it says why', async () => (await system.client.getRun(id)).waitingFor?.includes('"charge"') === true)
  const stuck = await system.client.getRun(id)
  await system.serveApp([version('charge')])
  const run = await system.waitForState(id, 'completed')

  expect(stuck.state).not.toBe('failed')
  expect(stuck.waitingFor).toMatch(/charge/)
  expect(run.output).toBe(2)
})
