/* Messages to a run, and waits that have lost a race, through the real engine and the real SDK. */
import { createFunction } from '@stepwell/sdk'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { startSystem, type TestSystem } from '../support/system.ts'

let system: TestSystem
beforeAll(async () => {
  system = await startSystem()
})
afterAll(() => system.stop())
afterEach(async () => {
  expect(await system.brokenInvariants()).toEqual([])
})

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
    const run = await system.start('collect', { count: 3 })
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
    const run = await system.start('levels')
    await system.waitForState(run, 'waiting')
    while ((await system.journal(run)).filter(entry => entry.type === 'signal_awaited').length < 2);

    await system.client.signal(run, 'approve', 'yes')

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: 'yes' })
  })

  test('that are sent again under their id are one', async () => {
    await system.serveApp([collect])
    const run = await system.start('collect', { count: 2 })
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
    const run = await system.start('rounds')
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
    const run = await system.start('hasty-twice')
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
    const run = await system.start('entity')
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
    const run = await system.start('patient')
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
    const run = await system.start('reminded')
    const reminders = async () => (await system.journal(run)).filter(entry => entry.type === 'step_completed').length
    await expect.poll(reminders).toBeGreaterThan(1)

    await system.client.signal(run, 'approve', 'yes')

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: 'yes' })
  })
})
