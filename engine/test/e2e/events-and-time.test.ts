import { createFunction } from '@stepwell/sdk'
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

type Events = {
  asked: { id: number }
  answered: { id: number; text: string }
}

const asking = createFunction<Events, 'asked'>({
  id: 'asking',
  trigger: { event: 'asked' },
  handler: async ({ event, step }) => {
    const answer = await step.waitForEvent('answer', {
      event: 'answered',
      match: { id: event.data.id },
      timeout: '20s',
    })
    return answer?.data.text ?? 'nobody answered'
  },
})

test('100 of 100 events that are sent in the same request as the trigger, before or after it, wake their waits', async () => {
  await system.serveApp([asking])

  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, id) => {
      const trigger = { name: 'asked', data: { id } } as const
      const answer = { name: 'answered', data: { id, text: `same ${id}` } } as const
      return system.client.send(id % 2 === 0 ? [trigger, answer] : [answer, trigger])
    }),
  )

  const runs = await Promise.all(
    answers.map(answer => system.waitForState(answer.flatMap(({ runs }) => runs)[0] ?? '', 'completed')),
  )
  expect(runs.map(run => run.output)).toEqual(Array.from({ length: 100 }, (_, id) => `same ${id}`))
})

test('100 of 100 events that arrive before their wait is registered wake it', async () => {
  const gates = new Map<number, () => void>()
  const gated = createFunction<Events, 'asked'>({
    id: 'asking',
    trigger: { event: 'asked' },
    handler: async ({ event, step }) => {
      await step.run('hold', () => new Promise<void>(resolve => gates.set(event.data.id, resolve)))
      const answer = await step.waitForEvent('answer', {
        event: 'answered',
        match: { id: event.data.id },
        timeout: '20s',
      })
      return answer?.data.text ?? 'nobody answered'
    },
  })
  await system.serveApp([gated])
  const ids = Array.from({ length: 100 }, (_, n) => 1_000 + n)

  const sent = await system.client.send(ids.map(id => ({ name: 'asked', data: { id } })))
  await waitUntil('all are held', () => gates.size === 100)
  await system.client.send(ids.map(id => ({ name: 'answered', data: { id, text: `early ${id}` } })))
  for (const open of gates.values()) open()

  const runs = await Promise.all(sent.map(({ runs }) => system.waitForState(runs[0] ?? '', 'completed')))
  expect(runs.map(run => run.output)).toEqual(ids.map(id => `early ${id}`))
})

test('an event from before the run, the trigger itself, and an event of another value wake nothing', async () => {
  const echo = createFunction<{ ping: { n: number } }>({
    id: 'echo',
    trigger: { event: 'ping' },
    handler: async ({ event, step }) => {
      if (event.data.n !== 1) return 'not the one'
      const next = await step.waitForEvent('next', { event: 'ping', timeout: 300 })
      return next === null ? 'none' : next.data
    },
  })
  await system.serveApp([echo])
  await system.client.send({ name: 'ping', data: { n: 0 } })

  const run = await system.runToEnd({ name: 'ping', data: { n: 1 } })

  expect(run.output).toBe('none')
})

test('events satisfy the waits of a run once each, in their order', async () => {
  const collect = createFunction<{ begin: unknown; item: { n: number } }, 'begin'>({
    id: 'collect',
    trigger: { event: 'begin' },
    handler: async ({ step }) => {
      const items: (number | undefined)[] = []
      for (let n = 0; n < 5; n += 1)
        items.push((await step.waitForEvent('item', { event: 'item', timeout: '10s' }))?.data.n)
      return items
    },
  })
  await system.serveApp([collect])
  const [sent] = await system.client.send({ name: 'begin' })

  await system.client.send([1, 2].map(n => ({ name: 'item', data: { n } })))
  await system.client.send({ name: 'item', data: { n: 3 } })
  await system.client.send([4, 5, 6].map(n => ({ name: 'item', data: { n } })))

  expect((await system.waitForState(sent?.runs[0] ?? '', 'completed')).output).toEqual([1, 2, 3, 4, 5])
})

test('a wait whose time is over gives null', async () => {
  await system.serveApp([asking])
  const quick = createFunction({
    id: 'quick',
    trigger: { event: 'quick' },
    handler: async ({ step }) => step.waitForEvent('answer', { event: 'unheard', timeout: 50 }),
  })
  await system.serveApp([quick])

  const run = await system.runToEnd({ name: 'quick' })

  expect(run).toMatchObject({ state: 'completed', output: null })
})

test('sleeps of 200 ms wake within 50 ms of due on an idle engine', async () => {
  const napping = createFunction({
    id: 'napping',
    trigger: { event: 'nap' },
    handler: async ({ step }) => {
      for (let n = 0; n < 5; n += 1) await step.sleep('nap', 200)
    },
  })
  await system.serveApp([napping])

  const run = await system.runToEnd({ name: 'nap' })

  const journal = await system.journal(run.id)
  const late = journal.flatMap(entry => {
    if (entry.type !== 'sleep_started') return []
    const woke = journal.find(other => other.type === 'sleep_completed' && other.key === entry.key)
    return [Date.parse(woke?.at ?? '') - Date.parse(entry.data.until)]
  })
  expect(late).toHaveLength(5)
  // The median: one of five may meet a pause of the machine, which is not what this is about.
  expect([...late].sort((a, b) => a - b)[2]).toBeLessThan(50)
  expect(Math.min(...late)).toBeGreaterThanOrEqual(-1)
})

test('a sleep of two days is one row and nothing in memory', async () => {
  const long = createFunction({
    id: 'long',
    trigger: { event: 'long' },
    handler: async ({ step }) => {
      await step.sleep('cooldown', '2d')
      return 'rested'
    },
  })
  await system.serveApp([long])
  const [sent] = await system.client.send({ name: 'long' })
  const id = sent?.runs[0] ?? ''

  const waiting = await system.waitForState(id, 'waiting')

  expect(waiting.waitingFor).toMatch(/^Sleeping in "cooldown" until \d{4}-/)
  const { read } = system.engine.pools
  const uuid = system.uuidOf(id)
  expect(await read`select from stepwell.waits where run_id = ${uuid}`).toHaveLength(1)
  expect(await read`select from stepwell.queue where run_id = ${uuid}`).toHaveLength(0)
  // Two days later.
  await read`update stepwell.waits set due_at = now() where run_id = ${uuid}`
  expect((await system.waitForState(id, 'completed')).output).toBe('rested')
})

test('an event with an id of its own starts a run once, and answers the same both times', async () => {
  await system.serveApp([asking])
  const event = { name: 'asked', data: { id: 77_777 }, id: 'delivery-1' }

  const first = await system.client.send(event)
  const second = await system.client.send(event)

  expect(second).toEqual(first)
  expect(first[0]).toMatchObject({ id: 'delivery-1' })
  await system.client.send({ name: 'answered', data: { id: 77_777, text: 'x' } })
  await system.waitForState(first[0]?.runs[0] ?? '', 'completed')
})

test.each(['before', 'after'] as const)(
  '300 events that come %s the 300 parallel waits of one run each wake one',
  async when => {
    const fanIn = createFunction({
      id: 'fan-in',
      trigger: { event: 'fan-in' },
      handler: async ({ step }) => {
        if (when === 'before') await step.waitForEvent('begin', { event: 'fan-in.begin' })
        const parts = await Promise.all(
          Array.from({ length: 300 }, (_, n) =>
            step.waitForEvent(`part ${n}`, { event: `part.${when}`, match: { job: 1 } }),
          ),
        )
        return parts.map(part => part?.data.n)
      },
    })
    await system.serveApp([fanIn])
    const [sent] = await system.client.send({ name: 'fan-in' })
    const id = sent?.runs[0] ?? ''
    await system.waitForState(id, 'waiting')

    await system.client.send(Array.from({ length: 300 }, (_, n) => ({ name: `part.${when}`, data: { job: 1, n } })))
    await system.client.send({ name: 'fan-in.begin' })

    expect((await system.waitForState(id, 'completed')).output).toEqual(Array.from({ length: 300 }, (_, n) => n))
  },
)

test('parallel sleeps wake in time, each of them, and so does a wait beside them', async () => {
  const beside = createFunction({
    id: 'beside',
    trigger: { event: 'beside' },
    handler: async ({ step }) => {
      await Promise.all([
        ...[100, 200, 300, 400].map(ms => step.sleep(`nap ${ms}`, ms)),
        step.waitForEvent('answer', { event: 'beside.answer' }),
      ])
    },
  })
  await system.serveApp([beside])
  const [sent] = await system.client.send({ name: 'beside' })
  const id = sent?.runs[0] ?? ''
  await waitUntil(
    'three have woken',
    async () => (await system.journal(id)).filter(entry => entry.type === 'sleep_completed').length === 3,
  )
  const sentAt = Date.now()
  await system.client.send({ name: 'beside.answer' })

  await system.waitForState(id, 'completed')

  const journal = await system.journal(id)
  const late = journal.flatMap(entry => {
    if (entry.type === 'wait_matched') return [Date.parse(entry.at) - sentAt]
    if (entry.type !== 'sleep_started') return []
    const woke = journal.find(other => other.type === 'sleep_completed' && other.key === entry.key)
    return [Date.parse(woke?.at ?? '') - Date.parse(entry.data.until)]
  })
  expect([...late].sort((a, b) => a - b)[3]).toBeLessThan(250)
})
