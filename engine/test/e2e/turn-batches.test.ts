/*
 * Bursts of runs on an engine and an app that give and take several turns in one request.
 */
import { createFunction, serve } from '@stepwell/sdk'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type ListeningServer, listen } from '../support/app-server.ts'
import { startSystem, type TestSystem } from '../support/system.ts'
import { waitUntil } from '../support/wait-until.ts'

const RUNS = 200
const NAP_MS = 200
/** Instants are written in whole milliseconds. */
const ROUNDING_MS = 1

let system: TestSystem
let app: ListeningServer
let requests = 0
let executed: string[] = []
let sleptMs: number[] = []
/** When the nap of each event was asked for: by the app's monotonic clock, and by that of the wall, which the database has too. */
const asked = new Map<string, { monotonicMs: number; wallMs: number }>()

const steps = createFunction<{ 'steps.asked': { n: number } }>({
  id: 'steps',
  trigger: { event: 'steps.asked' },
  handler: async ({ event, step }) => {
    const { n } = event.data
    const one = await step.run('one', () => {
      executed.push(`${n} one`)
      return n
    })
    return step.run('two', () => {
      executed.push(`${n} two`)
      return one * 2
    })
  },
})

const nap = createFunction<{ 'nap.asked': { n: number } }>({
  id: 'nap',
  trigger: { event: 'nap.asked' },
  handler: async ({ event, step }) => {
    const { monotonicMs } = asked.get(event.id) ?? { monotonicMs: performance.now() }
    if (!asked.has(event.id)) asked.set(event.id, { monotonicMs, wallMs: Date.now() })
    await step.sleep('nap', NAP_MS)
    sleptMs.push(performance.now() - monotonicMs)
  },
})

beforeAll(async () => {
  system = await startSystem()
  const serving = serve([steps, nap], { signingKey: system.signingKey })
  app = await listen((request, response) => {
    if (request.method === 'POST') requests += 1
    return serving(request, response)
  })
  await system.client.sync([steps, nap], { url: app.url })
  // From the answer to this one the engine knows that the app takes several turns at once.
  await system.runToEnd({ name: 'steps.asked', data: { n: -1 } })
})
beforeEach(() => {
  requests = 0
  executed = []
  sleptMs = []
})
afterEach(async () => {
  expect(await system.brokenInvariants()).toEqual([])
})
afterAll(async () => {
  await app.close()
  await system.stop()
})

/** Starts as many runs by one send, and waits until they have ended. */
async function burst(name: string) {
  const sent = await system.client.send(Array.from({ length: RUNS }, (_, n) => ({ name, data: { n } })))
  const runs = sent.flatMap(event => event.runs)
  await waitUntil('all runs have ended', async () => {
    const [row] = await system.engine.pools.read<{ live: number }[]>`
      select count(*)::int as live from stepwell.runs`
    return row?.live === 0
  })
  return Promise.all(runs.map(run => system.client.getRun(run)))
}

test('200 runs that start together reach the app in fewer requests than runs, and each step runs once', async () => {
  const runs = await burst('steps.asked')

  expect(runs.map(({ state, output }) => [state, output])).toEqual(
    Array.from({ length: RUNS }, (_, n) => ['completed', n * 2]),
  )
  expect(executed.sort()).toEqual(
    Array.from({ length: RUNS }, (_, n) => [`${n} one`, `${n} two`])
      .flat()
      .sort(),
  )
  expect(requests).toBeLessThan(RUNS / 2)
})

test('of 200 sleeps that are asked for together none ends early', async () => {
  const runs = await burst('nap.asked')

  expect(runs.map(({ state }) => state)).toEqual(Array.from({ length: RUNS }, () => 'completed'))
  expect(sleptMs).toHaveLength(RUNS)
  expect(Math.min(...sleptMs)).toBeGreaterThanOrEqual(NAP_MS)
  // The app resumes some time after the end of a sleep: the record tells that end itself.
  const journals = await Promise.all(runs.map(run => system.journal(run.id)))
  for (const [started, sleeping, completed] of journals) {
    const eventId = started?.type === 'run_started' ? (started.data as { id: string }).id : ''
    const until = sleeping?.type === 'sleep_started' ? (sleeping.data as { until: string }).until : ''
    expect(Date.parse(until)).toBeGreaterThanOrEqual((asked.get(eventId)?.wallMs ?? Number.NaN) + NAP_MS - ROUNDING_MS)
    expect(completed).toMatchObject({ type: 'sleep_completed' })
    expect(Date.parse(completed?.at ?? '')).toBeGreaterThanOrEqual(Date.parse(until))
  }
})
