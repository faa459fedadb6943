/* Children, messages, generations, undoing and cancelling, through the real engine and the real SDK. */
import { createFunction, StepError, StepwellClient, StepwellError, serve } from '@stepwell/sdk'
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

const FAST = { limit: 1, minDelay: 1, maxDelay: 1 }

async function started(name: string, data: object = {}): Promise<string> {
  const [sent] = await system.client.send({ name, data })
  const run = sent?.runs[0]
  if (run === undefined) throw new Error(`"${name}" started nothing.`)
  return run
}

/** The child that a run has started, as soon as it has. */
async function childOf(run: string): Promise<string> {
  for (;;) {
    const started = (await system.journal(run)).find(entry => entry.type === 'child_started')
    if (started?.type === 'child_started') return started.data.run
  }
}

describe('messages to a run', () => {
  const collect = createFunction({
    id: 'collect',
    trigger: { event: 'collect' },
    handler: async ({ event, step }) => {
      const got: unknown[] = []
      for (let n = 0; n < event.data.count; n += 1) {
        const signal = await step.waitForSignal('next', 'item')
        got.push(signal?.data)
      }
      return got
    },
  })

  test('are received in the order in which they came, before the wait and after', async () => {
    await system.serveApp([collect])
    const run = await started('collect', { count: 3 })
    for (const n of [1, 2]) await system.client.signal(run, 'item', n)
    await system.waitForState(run, 'waiting')

    await system.client.signal(run, 'item', 3)

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: [1, 2, 3] })
  })

  test('go to the newest wait of a run for their name', async () => {
    const levels = createFunction({
      id: 'levels',
      trigger: { event: 'levels' },
      handler: async ({ step }) => {
        // Abandoned: its branch waits on.
        void step.waitForSignal('first level', 'approve').then(() => 'first')
        await step.sleep('patience', 1)
        const approval = await step.waitForSignal('second level', 'approve')
        return approval?.data
      },
    })
    await system.serveApp([levels])
    const run = await started('levels')
    await system.waitForState(run, 'waiting')
    while ((await system.journal(run)).filter(entry => entry.type === 'signal_awaited').length < 2);

    await system.client.signal(run, 'approve', 'yes')

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: 'yes' })
  })

  test('that are sent again under their id are one', async () => {
    await system.serveApp([collect])
    const run = await started('collect', { count: 2 })
    const path = `/v1/runs/${run}/signals`
    const uuid = system.uuidOf(run)
    for (let n = 0; n < 2; n += 1)
      await system.engine.sendMessage(system.ws, uuid, { name: 'item', data: 1, id: 'sig_a' })
    expect(path).toContain(run)
    await system.engine.sendMessage(system.ws, uuid, { name: 'item', data: 2, id: 'sig_b' })

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: [1, 2] })
  })

  test('to a run that has ended are refused', async () => {
    await system.serveApp([collect])
    const run = await system.runToEnd({ name: 'collect', data: { count: 0 } })

    await expect(system.client.signal(run.id, 'item')).rejects.toMatchObject({ code: 'run_ended', status: 409 })
  })

  test('that do not come in time give null', async () => {
    const impatient = createFunction({
      id: 'impatient',
      trigger: { event: 'impatient' },
      handler: ({ step }) => step.waitForSignal('answer', 'answer', { timeout: 20 }),
    })
    await system.serveApp([impatient])

    expect(await system.runToEnd({ name: 'impatient' })).toMatchObject({ state: 'completed', output: null })
  })
})

describe('a wait that has lost its race', () => {
  function rounds(again: boolean) {
    return createFunction({
      id: 'rounds',
      trigger: { event: 'rounds' },
      handler: async ({ event, step, run }) => {
        if (run.generation > 1) return ['next', (await step.waitForSignal('go on', 'go'))?.data]
        const first = await Promise.race([step.waitForSignal('go 1', 'go'), step.sleep('patience', 5)])
        if (first) return ['too early', first.data]
        // Something comes while it is busy elsewhere.
        await step.waitForSignal('other', 'other')
        if (again) return step.continueAsNew()
        const second = await step.waitForSignal('go 2', 'go', { timeout: event.data.timeout ?? '1m' })
        return ['second', second?.data]
      },
    })
  }

  test.each([
    [false, ['second', 'late']],
    [true, ['next', 'late']],
  ])('leaves what comes to it to the next wait (in another generation: %s)', async (again, output) => {
    await system.serveApp([rounds(again)])
    const run = await started('rounds')
    const waitsForOther = async () => (await system.journal(run)).some(entry => 'key' in entry && entry.key === 'other')
    await expect.poll(waitsForOther).toBe(true)

    await system.client.signal(run, 'go', 'late')
    await system.client.signal(run, 'other')

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output })
  })

  test('leaves an event to a younger wait that is open too', async () => {
    const hasty = createFunction({
      id: 'hasty-twice',
      trigger: { event: 'hasty-twice' },
      handler: async ({ step }) => {
        await Promise.race([step.waitForEvent('old', { event: 'parcel' }), step.sleep('patience', 5)])
        const first = await step.waitForEvent('young', { event: 'parcel' })
        const second = await step.waitForEvent('younger', { event: 'parcel' })
        return [first?.data.n, second?.data.n]
      },
    })
    await system.serveApp([hasty])
    const run = await started('hasty-twice')
    await expect
      .poll(async () => (await system.journal(run)).some(entry => 'key' in entry && entry.key === 'young'))
      .toBe(true)

    for (const n of [1, 2]) await system.client.send({ name: 'parcel', data: { n } })

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: [1, 2] })
  })

  test('leaves to the next generation what comes together with its end', async () => {
    const entity = createFunction({
      id: 'entity',
      trigger: { event: 'entity' },
      handler: async ({ step, run }) => {
        if (run.generation > 1) return (await step.waitForSignal('message', 'message', { timeout: '1s' }))?.data
        await Promise.race([step.waitForSignal('message', 'message'), step.waitForSignal('tick', 'tick')])
        return step.continueAsNew({})
      },
    })
    await system.serveApp([entity])
    const run = await started('entity')
    await system.waitForState(run, 'waiting')

    const uuid = system.uuidOf(run)
    const names = ['noise', 'tick', 'message']
    await Promise.all(names.map(name => system.engine.sendMessage(system.ws, uuid, { name, data: `a ${name}` })))

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: 'a message' })
  })

  test('gives its message once to who awaits it later', async () => {
    const patient = createFunction({
      id: 'patient',
      trigger: { event: 'patient' },
      handler: async ({ step }) => {
        const approval = step.waitForSignal('first', 'approve')
        await Promise.race([approval, step.run('remind', () => 1)])
        await step.waitForSignal('go', 'go')
        const first = await approval
        const second = await step.waitForSignal('second', 'approve', { timeout: 100 })
        return [first?.data, second]
      },
    })
    await system.serveApp([patient])
    const run = await started('patient')
    const received = async () => (await system.journal(run)).filter(entry => entry.type === 'signal_received').length
    await system.waitForState(run, 'waiting')

    await system.client.signal(run, 'approve', 'yes')
    await expect.poll(received).toBe(1)
    await system.client.signal(run, 'go')

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: ['yes', null] })
  })

  test('may be raced for again', async () => {
    const reminded = createFunction({
      id: 'reminded',
      trigger: { event: 'reminded' },
      handler: async ({ step }) => {
        const approval = step.waitForSignal('approval', 'approve')
        for (let n = 0; ; n += 1) {
          const winner = await Promise.race([approval, step.sleep(`reminder ${n}`, 10)])
          if (winner) return winner.data
          await step.run(`remind ${n}`, () => n)
        }
      },
    })
    await system.serveApp([reminded])
    const run = await started('reminded')
    const reminders = async () => (await system.journal(run)).filter(entry => entry.type === 'step_completed').length
    await expect.poll(reminders).toBeGreaterThan(1)

    await system.client.signal(run, 'approve', 'yes')

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: 'yes' })
  })
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
    const run = await started('family')
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

  async function childOf(run: string): Promise<string> {
    const child = (await system.journal(run)).find(entry => entry.type === 'child_started')
    if (child?.type !== 'child_started') throw new Error('no child')
    return child.data.run
  }

  test('runs a child in its own workspace, and its result comes back', async () => {
    const run = await system.runToEnd({ name: 'shop', data: { amount: 3, customer: 'c_9' } })

    expect(run).toMatchObject({ state: 'completed', output: 'charged 3' })
    const child = await childOf(run.id)
    expect(await billing.getRun(child)).toMatchObject({ parent: run.id, tags: { customer: 'c_9' } })
    await expect(system.client.getRun(child)).rejects.toMatchObject({ code: 'run_not_found' })
  })

  test('fails as it would at home', async () => {
    const run = await system.runToEnd({ name: 'shop', data: { amount: 0 } })

    expect(run).toMatchObject({ state: 'failed', error: { message: 'nothing to charge' } })
  })

  test('is cancelled with its parent', async () => {
    const run = await started('shop', { amount: 1, slow: true })
    await system.waitForState(run, 'waiting')
    const child = await childOf(run)

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
})

describe('generations', () => {
  test('are the same run with an empty journal, and messages go over', async () => {
    const loop = createFunction({
      id: 'loop',
      trigger: { event: 'loop' },
      handler: async ({ event, step, run }) => {
        const signal = await step.waitForSignal('next', 'item')
        const sum = (event.data.sum ?? 0) + signal?.data
        if (run.generation === 4) return { sum, generation: run.generation }
        return step.continueAsNew({ sum })
      },
    })
    await system.serveApp([loop])
    const run = await started('loop')
    for (const n of [1, 2, 3]) await system.client.signal(run, 'item', n)
    await system.client.signal(run, 'item', 4)

    expect(await system.waitForState(run, 'completed')).toMatchObject({
      output: { sum: 10, generation: 4 },
      generation: 4,
    })
    const rows = await system.engine.pools.read`
      select generation from stepwell.journal where run_id = ${system.uuidOf(run)} group by generation`
    expect([...rows]).toEqual([{ generation: 4 }])
    const turns = await system.engine.pools.read`
      select generation from stepwell.turns where run_id = ${system.uuidOf(run)} group by generation`
    expect([...turns]).toEqual([{ generation: 4 }])
  })

  test('see an event once', async () => {
    const loop = createFunction({
      id: 'taker',
      trigger: { event: 'taker' },
      handler: async ({ event, step, run }) => {
        const next = await step.waitForEvent('next', { event: 'brick' })
        const seen = [...(event.data.seen ?? []), next?.data.n]
        return run.generation === 3 ? seen : step.continueAsNew({ seen })
      },
    })
    await system.serveApp([loop])
    const run = await started('taker')
    for (const n of [1, 2, 3]) await system.client.send({ name: 'brick', data: { n } })

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: [1, 2, 3] })
  })
})

describe('undoing', () => {
  const undone: string[] = []
  const saga = createFunction({
    id: 'saga',
    trigger: { event: 'saga' },
    retries: FAST,
    handler: async ({ event, step }) => {
      await step.run('hotel', () => 'h1', { undo: hotel => void undone.push(`hotel ${hotel}`) })
      await step.run('flight', () => 'f1', { undo: flight => void undone.push(`flight ${flight}`) })
      if (event.data.hold) await step.sleep('hold', '1h')
      if (event.data.broken)
        await step.run('broken', () => 1, {
          undo: () => {
            throw new Error('stuck')
          },
        })
      throw new Error('no seats')
    },
  })

  test('takes back what a failed run has done, last in first out', async () => {
    await system.serveApp([saga])
    undone.length = 0

    const run = await system.runToEnd({ name: 'saga' })

    expect(run).toMatchObject({ state: 'failed', error: { message: 'no seats' } })
    expect(undone).toEqual(['flight f1', 'hotel h1'])
    expect((await system.journal(run.id)).map(entry => 'key' in entry && entry.key)).toEqual([
      false,
      'hotel',
      'flight',
      'undo:flight',
      'undo:hotel',
    ])
  })

  test('goes on when one undo fails, and says so', async () => {
    await system.serveApp([saga])
    undone.length = 0

    const run = await system.runToEnd({ name: 'saga', data: { broken: true } })

    expect(run.error?.message).toBe('no seats [could not be undone: "broken" (stuck)]')
    expect(undone).toEqual(['flight f1', 'hotel h1'])
  })

  test('takes back what a cancelled run has done', async () => {
    await system.serveApp([saga])
    undone.length = 0
    const run = await started('saga', { hold: true })
    await system.waitForState(run, 'waiting')

    await system.client.cancel(run)

    expect(await system.waitForState(run, 'cancelled')).toMatchObject({ state: 'cancelled' })
    expect(undone).toEqual(['flight f1', 'hotel h1'])
  })

  test('takes back what was under way when another branch failed', async () => {
    const effects: string[] = []
    let startBooking = () => {}
    const isBooking = new Promise<void>(resolve => {
      startBooking = resolve
    })
    const branches = createFunction({
      id: 'branches',
      trigger: { event: 'branches' },
      handler: ({ step }) =>
        Promise.all([
          step.run('hotel', () => isBooking.then(() => Promise.reject(new Error('full'))), { retries: 0 }),
          step.run(
            'flight',
            async ({ signal }) => {
              const isTold = new Promise(resolve => signal.addEventListener('abort', resolve))
              startBooking()
              await isTold
              effects.push('booked')
            },
            { undo: () => void effects.push('undone') },
          ),
        ]),
    })
    await system.serveApp([branches])

    const run = await system.runToEnd({ name: 'branches' })

    expect(run).toMatchObject({ state: 'failed', error: { message: 'full' } })
    expect(effects).toEqual(['booked', 'undone'])
  })
})

describe('a run is cancelled', () => {
  test('while a body runs: it is told so', async () => {
    let isAborted = false
    const busy = createFunction({
      id: 'busy',
      trigger: { event: 'busy' },
      handler: ({ step }) =>
        step.run(
          'work',
          ({ signal }) =>
            new Promise(resolve =>
              signal.addEventListener('abort', () => {
                isAborted = true
                resolve(1)
              }),
            ),
        ),
    })
    await system.serveApp([busy])
    const run = await started('busy')
    await system.waitForState(run, 'running')

    await system.client.cancel(run)

    expect(await system.waitForState(run, 'cancelled')).toMatchObject({ state: 'cancelled' })
    expect(isAborted).toBe(true)
  }, 15_000)

  test('by an event that its function names', async () => {
    const ship = createFunction({
      id: 'ship',
      trigger: { event: 'ship' },
      cancelOn: [{ event: 'order.cancelled', match: { 'order.id': 'orderId' } }],
      handler: ({ step }) => step.sleep('packing', '1h'),
    })
    await system.serveApp([ship])
    const [one, two] = [await started('ship', { orderId: 1 }), await started('ship', { orderId: 2 })]
    await system.waitForState(one, 'waiting')

    await system.client.send({ name: 'order.cancelled', data: { order: { id: 1 } } })

    const cancelled = await system.waitForState(one, 'cancelled')
    expect(cancelled.error?.message).toContain('order.cancelled')
    expect((await system.client.getRun(two)).state).toBe('waiting')
  })

  test('when it takes too long, and what follows is told why', async () => {
    let told: unknown
    const late = createFunction({
      id: 'late',
      trigger: { event: 'late' },
      timeouts: { finish: 50 },
      onCancel: async ({ event, error, endedRun, step }) => {
        await step.run('note', () => {
          told = [event.data, error.message, endedRun]
        })
      },
      handler: ({ step }) => step.sleep('long', '1h'),
    })
    await system.serveApp([late])
    const run = await started('late', { a: 1 })

    expect(await system.waitForState(run, 'cancelled')).toMatchObject({ state: 'cancelled' })
    await expect.poll(() => told).toEqual([{ a: 1 }, expect.stringContaining('did not finish'), run])
  })

  test('the moment that its time is up, whoever has started it', async () => {
    const late = createFunction({
      id: 'too-late',
      trigger: { event: 'late.wanted' },
      timeouts: { finish: 30 },
      handler: ({ step }) => step.sleep('long', '1h'),
    })
    const starter = createFunction({
      id: 'starter',
      trigger: { event: 'starter' },
      handler: async ({ step }) => {
        await step.sendEvent('by event', { name: 'late.wanted' })
        await step.invoke('as a child', { function: late }).catch(() => {})
      },
    })
    await system.serveApp([late, starter])

    // Looked for every half second at the latest: several in a row do not all hit that moment.
    for (let n = 0; n < 3; n += 1) {
      await system.waitForState(await started('late.wanted'), 'cancelled')
      await system.runToEnd({ name: 'starter' })
    }

    const [late3x3] = await system.engine.pools.read<{ count: number; seconds: number }[]>`
      select count(*)::int as count, extract(epoch from sum(finished_at - created_at))::float8 as seconds
      from stepwell.runs_done where function = 'too-late'`
    expect(late3x3).toMatchObject({ count: 9 })
    expect(late3x3?.seconds).toBeLessThan(1.5)
  })

  test('and the children of its children follow at once', async () => {
    const leaf = createFunction({ id: 'leaf', handler: ({ step }) => step.sleep('long', '1h') })
    const branch = createFunction({ id: 'branch', handler: ({ step }) => step.invoke('leaf', { function: leaf }) })
    const tree = createFunction({
      id: 'tree',
      trigger: { event: 'tree' },
      handler: async ({ step }) => {
        await step.invoke('branch', { function: branch })
      },
    })
    await system.serveApp([tree, branch, leaf])

    let tookMs = 0
    for (let n = 0; n < 3; n += 1) {
      const run = await started('tree')
      const below = await childOf(await childOf(run))
      await system.waitForState(below, 'waiting')
      const askedAtMs = performance.now()
      await system.client.cancel(run)
      await system.waitForState(below, 'cancelled')
      tookMs += performance.now() - askedAtMs
    }

    expect(tookMs).toBeLessThan(1_500)
  })

  test('when it has ended: refused', async () => {
    const quick = createFunction({ id: 'quick', trigger: { event: 'quick' }, handler: () => 1 })
    await system.serveApp([quick])
    const run = await system.runToEnd({ name: 'quick' })

    await expect(system.client.cancel(run.id)).rejects.toBeInstanceOf(StepwellError)
    await expect(system.client.cancel('run_01h455vb4pex5vsknk084sn02q')).rejects.toMatchObject({
      code: 'run_not_found',
    })
  })
})

test('a failed run is followed by what its function says', async () => {
  const reports: unknown[] = []
  const fragile = createFunction({
    id: 'fragile',
    trigger: { event: 'fragile' },
    retries: FAST,
    onFailure: ({ event, error }) => void reports.push([event.data.n, error.message]),
    handler: () => {
      throw new Error('broken')
    },
  })
  await system.serveApp([fragile])

  await system.runToEnd({ name: 'fragile', data: { n: 7 } })

  await expect.poll(() => reports).toEqual([[7, 'broken']])
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
  const run = await started('reporting', { customer: { id: 'c_1' } })

  const waiting = await system.waitForState(run, 'waiting')
  expect(waiting).toMatchObject({ status: { done: 1 }, tags: { customer: 'c_1', phase: 'two' } })
  await system.client.signal(run, 'go')

  expect(await system.waitForState(run, 'completed')).toMatchObject({ status: { done: 1 }, tags: { customer: 'c_1' } })
  const found = async (tag: [string, string]) => (await system.client.listRuns({ tag })).runs.map(({ id }) => id)
  expect(await found(['customer', 'c_1'])).toEqual([run])
  expect(await found(['customer', 'c_2'])).toEqual([])
  expect(await found(['phase', 'two'])).toEqual([])
  const live = await started('reporting', { customer: { id: 'c_1' } })
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
