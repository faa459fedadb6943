/* Status, tags, clock, chance, poll and map, through the real engine and the real SDK. */
import { createFunction } from '@stepwell/sdk'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { startSystem, type TestSystem } from '../support/system.ts'

let system: TestSystem
beforeAll(async () => {
  system = await startSystem()
})
afterAll(() => system.stop())
afterEach(async () => {
  expect(await system.brokenInvariants()).toEqual([])
})

test('a run says where it is, and is found by its tags', async () => {
  const reporting = createFunction({
    id: 'reporting',
    trigger: { event: 'reporting' },
    tags: { customer: 'customer.id' },
    handler: async ({ step }) => {
      step.setStatus({ done: 0 })
      await step.run('first', () => 1)
      step.setStatus({ done: 1 })
      step.setTags({ phase: 'two' })
      await step.waitForSignal('go', 'go')
      step.setTags({ phase: null })
    },
  })
  await system.serveApp([reporting])
  const run = await system.start('reporting', { customer: { id: 'c_1' } })

  const waiting = await system.waitForState(run, 'waiting')
  expect(waiting).toMatchObject({ status: { done: 1 }, tags: { customer: 'c_1', phase: 'two' } })
  await system.client.signal(run, 'go')

  expect(await system.waitForState(run, 'completed')).toMatchObject({ status: { done: 1 }, tags: { customer: 'c_1' } })
  const found = async (tag: [string, string]) => (await system.client.listRuns({ tag })).runs.map(({ id }) => id)
  expect(await found(['customer', 'c_1'])).toEqual([run])
  expect(await found(['customer', 'c_2'])).toEqual([])
  expect(await found(['phase', 'two'])).toEqual([])
  const live = await system.start('reporting', { customer: { id: 'c_1' } })
  expect(await found(['customer', 'c_1'])).toEqual([live, run])
  await system.client.cancel(live)
  await system.waitForState(live, 'cancelled')
})

test('time and chance are the same on every replay', async () => {
  const seen: unknown[] = []
  const dicing = createFunction({
    id: 'dicing',
    trigger: { event: 'dicing' },
    handler: async ({ step }) => {
      const before = [step.now().toISOString(), step.random(), step.uuid()]
      await step.sleep('pause', 5)
      const after = [step.now().toISOString(), step.random(), step.uuid()]
      seen.push(before)
      await step.sleep('again', 5)
      return [before, after]
    },
  })
  await system.serveApp([dicing])

  const run = await system.runToEnd({ name: 'dicing' })

  expect(run.state).toBe('completed')
  const [before, after] = run.output as string[][]
  for (const one of seen) expect(one).toEqual(before)
  expect(seen.length).toBeGreaterThan(1)
  expect(Date.parse(after?.[0] as string) - Date.parse(before?.[0] as string)).toBeGreaterThanOrEqual(5)
  expect(after?.[2]).not.toBe(before?.[2])
})

test('poll tries until it has what it wants', async () => {
  let tries = 0
  const polling = createFunction({
    id: 'polling',
    trigger: { event: 'polling' },
    handler: ({ event, step }) =>
      step.poll('ready', () => ++tries, { every: 2, until: n => n >= 3, timeout: event.data.timeout }),
  })
  await system.serveApp([polling])

  expect((await system.runToEnd({ name: 'polling', data: { timeout: '1m' } })).output).toBe(3)
  tries = -1_000_000
  const run = await system.runToEnd({ name: 'polling', data: { timeout: 10 } })
  expect(run).toMatchObject({ state: 'failed', error: { code: 'poll_timed_out' } })
})

test('map starts no further items when one has failed', async () => {
  const mapping = createFunction({
    id: 'mapping',
    trigger: { event: 'mapping' },
    retries: 0,
    handler: async ({ step }) => {
      const work = async (item: number) => {
        if (item === 0) throw new Error('broken')
        await new Promise(resolve => setTimeout(resolve, 30))
      }
      await step.map('work', [0, 1, 2, 3], work, { concurrency: 2 }).catch(() => {})
      await step.run('after', () => new Promise(resolve => setTimeout(resolve, 100)))
    },
  })
  await system.serveApp([mapping])

  const run = await system.runToEnd({ name: 'mapping' })

  const keys = (await system.journal(run.id)).flatMap(entry => ('key' in entry ? [entry.key] : []))
  expect(keys).toEqual(['work:0', 'work:1', 'after'])
})

test.each([
  ['a\u0000b', 'ab'],
  ['a\ud83d', 'a'],
  ['two\nlines', 'twolines'],
])('a tag leaves out what it cannot hold: %j', async (given, tag) => {
  const tagged = createFunction({
    id: 'tagged',
    trigger: { event: 'tagged' },
    tags: { note: 'note' },
    handler: async ({ step }) => {
      step.setTags({ more: 'yes' })
      await step.run('work', () => 1)
    },
  })
  await system.serveApp([tagged])

  expect(await system.runToEnd({ name: 'tagged', data: { note: given } })).toMatchObject({
    state: 'completed',
    tags: { note: tag, more: 'yes' },
  })
})

test('the clock that a handler saw in an acknowledgement is the one of its replays', async () => {
  const seen = new Map<string, Set<number>>()
  const clock = createFunction({
    id: 'clock',
    trigger: { event: 'clock' },
    handler: async ({ step, run }) => {
      const long = step.run('long', () => new Promise(resolve => setTimeout(resolve, 60)))
      // Over while the body runs: it comes with an acknowledgement.
      await step.sleep('short', 20)
      seen.set(run.id, (seen.get(run.id) ?? new Set()).add(step.now().getTime()))
      await long
      await step.sleep('again', 10)
    },
  })
  await system.serveApp([clock])

  await Promise.all(Array.from({ length: 20 }, () => system.runToEnd({ name: 'clock' })))

  expect(seen.size).toBe(20)
  expect([...seen.values()].filter(times => times.size > 1)).toEqual([])
})
