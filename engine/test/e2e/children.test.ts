/* Children, of the same app and of others, through the real engine and the real SDK. */
import { createFunction, StepError, StepwellClient, type StepwellError, serve } from '@stepwell/sdk'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { ensureWorkspace } from '../../src/store/workspaces.ts'
import { listen } from '../support/app-server.ts'
import { startSystem, type TestSystem } from '../support/system.ts'

let system: TestSystem
beforeAll(async () => {
  system = await startSystem()
})
afterAll(() => system.stop())
afterEach(async () => {
  expect(await system.brokenInvariants()).toEqual([])
})

describe('children', () => {
  const double = createFunction({
    id: 'double',
    handler: async ({ event, step }) => {
      if (event.data.n < 0) throw new RangeError('too small')
      return step.run('times two', () => (event.data.n as number) * 2)
    },
  })

  test('give their result to the parent', async () => {
    const parent = createFunction({
      id: 'parent',
      trigger: { event: 'parent' },
      handler: async ({ step }) => {
        const one: number = await step.invoke('one', { function: double, data: { n: 1 } })
        const two = await step.invoke('two', { function: 'double', data: { n: 2 } })
        return [one, two]
      },
    })
    await system.serveApp([parent, double])

    const run = await system.runToEnd({ name: 'parent' })

    expect(run).toMatchObject({ state: 'completed', output: [2, 4] })
    const child = (await system.journal(run.id)).find(entry => entry.type === 'child_started')
    if (child?.type !== 'child_started') throw new Error('no child')
    expect(await system.client.getRun(child.data.run)).toMatchObject({ function: 'double', parent: run.id, output: 2 })
  })

  test('that fail throw their error in the parent', async () => {
    const parent = createFunction({
      id: 'careful',
      trigger: { event: 'careful' },
      handler: async ({ step }) => {
        try {
          return await step.invoke('child', { function: double, data: { n: -1 } })
        } catch (error) {
          return error instanceof StepError ? [error.name, error.message, error.step] : null
        }
      },
    })
    await system.serveApp([parent, double])

    expect((await system.runToEnd({ name: 'careful' })).output).toEqual(['RangeError', 'too small', 'child'])
  })

  test('that are not there are refused by name', async () => {
    const parent = createFunction({
      id: 'lost',
      trigger: { event: 'lost' },
      handler: ({ step }) => step.invoke('child', { function: 'nobody' }),
    })
    await system.serveApp([parent])

    const run = await system.runToEnd({ name: 'lost' })

    expect(run).toMatchObject({ state: 'failed', error: { code: 'function_not_found' } })
    expect(run.error?.message).toContain('"nobody"')
  })

  test('that take too long are not waited for', async () => {
    const slow = createFunction({ id: 'slow', handler: ({ step }) => step.sleep('long', '1h') })
    const parent = createFunction({
      id: 'hasty',
      trigger: { event: 'hasty' },
      handler: ({ step }) =>
        step.invoke('child', { function: slow, timeout: 20 }).catch(error => (error as StepwellError).code),
    })
    await system.serveApp([parent, slow])

    expect((await system.runToEnd({ name: 'hasty' })).output).toBe('child_timed_out')
  })

  test('may be detached: the parent gets their id and goes on', async () => {
    const parent = createFunction({
      id: 'spawner',
      trigger: { event: 'spawner' },
      handler: ({ step }) => step.invoke('child', { function: double, data: { n: 4 }, detached: true }),
    })
    await system.serveApp([parent, double])

    const run = await system.runToEnd({ name: 'spawner' })

    const { run: child } = run.output as { run: string }
    expect(await system.waitForState(child, 'completed')).toMatchObject({ output: 8, parent: run.id })
  })

  test('that end one after the other are told to their parent as they do', async () => {
    const nap = createFunction({ id: 'nap', handler: ({ event, step }) => step.sleep('nap', event.data.ms) })
    const family = createFunction({
      id: 'naps',
      trigger: { event: 'naps' },
      handler: ({ step }) => step.map('nap', [{ ms: 1 }, { ms: 60 }, { ms: 120 }], { function: nap }),
    })
    await system.serveApp([family, nap])

    let tookMs = 0
    for (let n = 0; n < 3; n += 1) {
      const run = await system.runToEnd({ name: 'naps' })
      tookMs += Date.parse(run.finishedAt ?? '') - Date.parse(run.createdAt)
    }

    // A second for each, when a turn that is held for its handler hears of nothing.
    expect(tookMs).toBeLessThan(2_000)
  })

  test('may be a thousand', async () => {
    const many = createFunction({
      id: 'many',
      trigger: { event: 'many' },
      handler: async ({ step }) => {
        const items = Array.from({ length: 1_000 }, (_, n) => ({ n }))
        const results = await step.map('child', items, { function: double })
        return results.reduce((sum: number, n) => sum + n, 0)
      },
    })
    await system.serveApp([many, double])

    const [run] = await system.client.sendAndWait({ name: 'many' }, { timeout: '60s' })

    expect(run).toMatchObject({ state: 'completed', output: 999_000 })
  }, 90_000)

  test('are cancelled with their parent, unless they are abandoned', async () => {
    const sleeper = createFunction({ id: 'sleeper', handler: ({ step }) => step.sleep('long', '1h') })
    const parent = createFunction({
      id: 'family',
      trigger: { event: 'family' },
      handler: ({ step }) =>
        Promise.all([
          step.invoke('follows', { function: sleeper }),
          step.invoke('stays', { function: sleeper, onCancel: 'abandon' }),
        ]),
    })
    await system.serveApp([parent, sleeper])
    const run = await system.start('family')
    await system.waitForState(run, 'waiting')
    const children = (await system.journal(run)).flatMap(entry =>
      entry.type === 'child_started' ? [entry.data.run] : [],
    )

    await system.client.cancel(run, { reason: 'enough' })

    expect(await system.waitForState(run, 'cancelled')).toMatchObject({
      error: { code: 'run_cancelled', message: 'enough' },
    })
    expect(await system.waitForState(children[0] as string, 'cancelled')).toMatchObject({ state: 'cancelled' })
    expect(await system.waitForState(children[1] as string, 'waiting')).toMatchObject({ state: 'waiting' })
  })
})

describe('another app of the environment', () => {
  const charge = createFunction({
    id: 'charge',
    tags: { customer: 'customer' },
    handler: async ({ event, step }) => {
      if (event.data.amount === 0) throw new Error('nothing to charge')
      if (event.data.slow) await step.sleep('long', '1h')
      return step.run('charge', () => `charged ${event.data.amount}`)
    },
  })
  const shop = createFunction({
    id: 'shop',
    trigger: { event: 'shop' },
    handler: ({ event, step }) => step.invoke('charge', { function: 'billing/charge', data: event.data }),
  })
  let billing: StepwellClient
  beforeAll(async () => {
    const ws = await ensureWorkspace(system.engine.pools.upkeep, 'billing/test', system.signingKey)
    expect(ws).not.toBe(system.ws)
    billing = new StepwellClient({ url: system.front.url, signingKey: system.signingKey, workspace: 'billing/test' })
    const app = await listen(serve([charge], { signingKey: system.signingKey }))
    await billing.sync([charge], { url: app.url })
    await system.serveApp([shop])
    return () => app.close()
  })

  test('runs a child in its own workspace, and its result comes back', async () => {
    const run = await system.runToEnd({ name: 'shop', data: { amount: 3, customer: 'c_9' } })

    expect(run).toMatchObject({ state: 'completed', output: 'charged 3' })
    const child = await system.childOf(run.id)
    expect(await billing.getRun(child)).toMatchObject({ parent: run.id, tags: { customer: 'c_9' } })
    await expect(system.client.getRun(child)).rejects.toMatchObject({ code: 'run_not_found' })
  })

  test('fails as it would at home', async () => {
    const run = await system.runToEnd({ name: 'shop', data: { amount: 0 } })

    expect(run).toMatchObject({ state: 'failed', error: { message: 'nothing to charge' } })
  })

  test('is cancelled with its parent', async () => {
    const run = await system.start('shop', { amount: 1, slow: true })
    await system.waitForState(run, 'waiting')
    const child = await system.childOf(run)

    await system.client.cancel(run)

    await system.waitForState(run, 'cancelled')
    await expect.poll(async () => (await billing.getRun(child)).state).toBe('cancelled')
  })

  test('that is not there is refused by name', async () => {
    const lost = createFunction({
      id: 'lost-app',
      trigger: { event: 'lost-app' },
      handler: ({ step }) => step.invoke('child', { function: 'shipping/send' }),
    })
    await system.serveApp([shop, lost])

    expect(await system.runToEnd({ name: 'lost-app' })).toMatchObject({ error: { code: 'function_not_found' } })
  })

  test('is found beside one that is not there', async () => {
    const both = createFunction({
      id: 'both',
      trigger: { event: 'both' },
      handler: async ({ step }) => {
        const ends = await Promise.allSettled([
          step.invoke('theirs', { function: 'billing/charge', data: { amount: 1 } }),
          step.invoke('ours', { function: 'no-such' }),
        ])
        return ends.map(end => (end.status === 'fulfilled' ? end.value : end.reason.code))
      },
    })
    await system.serveApp([shop, both])

    expect((await system.runToEnd({ name: 'both' })).output).toEqual(['charged 1', 'function_not_found'])
  })
})
