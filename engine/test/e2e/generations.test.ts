/* Generations of a run, through the real engine and the real SDK. */
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
    const run = await system.start('loop')
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
    const run = await system.start('taker')
    for (const n of [1, 2, 3]) await system.client.send({ name: 'brick', data: { n } })

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: [1, 2, 3] })
  })

  test('get every message in the order in which they came, whatever is in it', async () => {
    const NUL = 'a\u0000b'
    const keeper = createFunction({
      id: 'keeper',
      trigger: { event: 'keeper' },
      handler: async ({ step, run }) => {
        if (run.generation === 1) {
          for (const n of [1, 2])
            await Promise.race([step.waitForSignal(`m${n}`, 'm'), step.waitForSignal(`t${n}`, 't')])
          await step.waitForSignal('go', 'go')
          return step.continueAsNew()
        }
        if (run.generation === 2) {
          await Promise.race([step.waitForEvent('poke', { event: 'poke' }), step.waitForSignal('m', 'm')])
          return step.continueAsNew()
        }
        return [(await step.waitForSignal('a', 'm'))?.data, (await step.waitForSignal('b', 'm'))?.data]
      },
    })
    await system.serveApp([keeper])
    const run = await system.start('keeper')
    await system.waitForEntries(run, 'signal_awaited', 2)
    await system.client.signal(run, 't')
    await system.waitForEntries(run, 'signal_awaited', 4)
    await system.client.signal(run, 't')
    await system.waitForEntries(run, 'signal_awaited', 5)
    await system.client.signal(run, 'm', NUL)
    await system.waitForEntries(run, 'signal_received', 3)
    await system.client.signal(run, 'm', 'second')
    await system.waitForEntries(run, 'signal_received', 4)

    await system.client.send({ name: 'poke' })
    await system.client.signal(run, 'go')

    expect(await system.waitForState(run, 'completed')).toMatchObject({ output: [NUL, 'second'] })
  })
})
