/* Several versions of a function, side by side and one after the other. */
import { createFunction, type DurableFunction } from '@stepwell/sdk'
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

function order(version: number, onMissing: 'wait' | 'latest' = 'wait'): DurableFunction {
  return createFunction({
    id: 'order',
    version,
    onMissing,
    trigger: { event: 'order' },
    handler: async ({ step, run }) => {
      const first = await step.run('first', () => version)
      await step.waitForSignal('go', 'go')
      if (version === 3 && run.generation === 1) return step.continueAsNew()
      return [first, await step.run('last', () => version)]
    },
  })
}

async function startOrder(): Promise<string> {
  const [sent] = await system.client.send({ name: 'order' })
  const run = sent?.runs[0] as string
  await system.waitForState(run, 'waiting')
  return run
}

test('a run goes on with the version that it began with', async () => {
  await system.serveApp([order(1)])
  const old = await startOrder()
  await system.serveApp([order(1), order(2)])
  const young = await startOrder()

  for (const run of [old, young]) await system.client.signal(run, 'go')

  expect(await system.waitForState(old, 'completed')).toMatchObject({ output: [1, 1], version: 1 })
  expect(await system.waitForState(young, 'completed')).toMatchObject({ output: [2, 2], version: 2 })
})

test('a run whose version is gone waits and says so, until it is served again', async () => {
  await system.serveApp([order(1)])
  const run = await startOrder()
  await system.serveApp([order(2)])
  await system.client.signal(run, 'go')

  await expect
    .poll(async () => (await system.client.getRun(run)).waitingFor)
    .toContain('The run began with version 1 of "order", and only 2 is served here. Serve version 1 beside it')
  await system.serveApp([order(2), order(1)])

  expect(await system.waitForState(run, 'completed')).toMatchObject({ output: [1, 1] })
})

test('a run whose version is gone goes on with the newest where the function says so', async () => {
  await system.serveApp([order(1)])
  const run = await startOrder()
  await system.serveApp([order(2, 'latest')])

  await system.client.signal(run, 'go')

  expect(await system.waitForState(run, 'completed')).toMatchObject({ output: [1, 2] })
})

test('the next generation of a run has the newest version', async () => {
  await system.serveApp([order(3)])
  const run = await startOrder()
  await system.serveApp([order(3), order(4)])

  await system.client.signal(run, 'go')
  await expect.poll(async () => (await system.client.getRun(run)).generation).toBe(2)
  await system.client.signal(run, 'go')

  expect(await system.waitForState(run, 'completed')).toMatchObject({ output: [4, 4], version: 4, generation: 2 })
})
