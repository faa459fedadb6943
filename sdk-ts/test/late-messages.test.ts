/* Waits that have lost a race: who gets what comes to them. */
import type { Op } from '@stepwell/protocol'
import { expect, test } from 'vitest'
import { nextMacrotask } from '../src/macrotask.ts'
import { StepPromise } from '../src/step-promise.ts'
import type { EngineRun } from './engine-run.ts'
import { anEngine, type Handler } from './harness.ts'

type Arrivals = Record<string, unknown>
const COMPLETED = Symbol('completed')

/** Runs turns, each after what arrives before it. Gives the end, and that of a replay of the whole journal. */
async function endOf(handler: Handler, arrivals: Arrivals[]): Promise<unknown> {
  const engine = await anEngine(handler)
  const run = engine.start('fn')
  let ops: Op[] = (await engine.turn(run)).ops
  for (const arrived of arrivals) {
    for (const [key, data] of Object.entries(arrived)) arrive(run, key, data)
    ops = (await engine.turn(run)).ops
  }
  const [end] = ops
  if (end?.op === 'continue_as_new') return { unread: end.unread }
  return end?.op === 'finish' ? end.output : end
}

function arrive(run: EngineRun, key: string, data: unknown): void {
  if (data === COMPLETED) run.inbox.push({ type: 'sleep_completed', key })
  else run.inbox.push({ type: 'signal_received', key, data: { id: key, name: 'n', data: data as number, ts: '' } })
}

test('a message that comes together with what makes the handler go on anew is unread', async () => {
  const handler: Handler = async ({ step }) => {
    await Promise.race([step.waitForSignal('m', 'msg'), step.waitForSignal('t', 'tick')])
    return step.continueAsNew({})
  }

  expect(await endOf(handler, [{ t: 1, m: 2 }])).toEqual({ unread: ['m'] })
})

test('a message that nobody has ever looked at is unread', async () => {
  const handler: Handler = async ({ step }) => {
    void step.waitForSignal('ahead', 'msg')
    const had = step.waitForSignal('had', 'msg').then(() => {})
    const awaited = (async () => void (await step.waitForSignal('awaited', 'msg')))()
    await step.waitForSignal('go', 'go')
    await Promise.all([had, awaited])
    return step.continueAsNew({})
  }

  expect(await endOf(handler, [{ had: 1, ahead: 2, awaited: 3 }, { go: 4 }])).toEqual({ unread: ['ahead'] })
})

test('a message is given once to who awaits the loser of a race later', async () => {
  const handler: Handler = async ({ step }) => {
    const first = step.waitForSignal('first', 'approve')
    await Promise.race([first, step.sleep('patience', 1)])
    await step.waitForSignal('reminded', 'go')
    const a = await first
    const b = await step.waitForSignal('second', 'approve')
    return [a?.data, b?.data]
  }
  const arrivals = [{ patience: COMPLETED }, { first: 'A' }, { reminded: 1 }, { second: 'B' }]

  expect(await endOf(handler, arrivals)).toEqual(['A', 'B'])
})

test('who awaits the loser of a race listens, whatever else raced it', async () => {
  const handler: Handler = async ({ step }) => {
    const first = step.waitForSignal('first', 'approve')
    let heard: unknown = null
    const listening = (async () => {
      heard = (await first)?.data
    })()
    await Promise.race([first, step.sleep('patience', 1)])
    await step.waitForSignal('reminded', 'go')
    await listening
    const second = await step.waitForSignal('second', 'approve')
    return [heard, second?.data]
  }
  const arrivals = [{ patience: COMPLETED }, { first: 'A' }, { reminded: 1 }, { second: 'B' }]

  expect(await endOf(handler, arrivals)).toEqual(['A', 'B'])
})

const KEPT: [string, Handler][] = [
  [
    'a step',
    async ({ step }) => void (await Promise.race([step.waitForSignal('m', 'msg'), step.run('work', () => 1)])),
  ],
  [
    'a step that was asked for before',
    async ({ step }) => void (await Promise.race([step.run('work', () => 1), step.waitForSignal('m', 'msg')])),
  ],
  [
    'events that were sent',
    async ({ step }) => {
      await Promise.race([step.waitForSignal('m', 'msg'), step.sendEvent('send', { name: 'sent' })])
    },
  ],
  [
    'a step, each with a tag',
    async ({ step }) => {
      const message = step.waitForSignal('m', 'msg').then(news => ({ news }))
      await Promise.race([message, step.run('work', () => 1).then(done => ({ done }))])
    },
  ],
  [
    'a poll',
    async ({ step }) => {
      await Promise.race([step.waitForSignal('m', 'msg'), step.poll('work', () => true, { every: '1s' })])
    },
  ],
  [
    'items of a map',
    async ({ step }) => void (await Promise.race([step.waitForSignal('m', 'msg'), step.map('work', [1], n => n)])),
  ],
  [
    'one that failed',
    async ({ step }) => {
      const fails = step.run('work', () => Promise.reject(new Error('no')), { retries: 0 })
      await Promise.race([step.waitForSignal('m', 'msg'), fails]).catch(() => {})
    },
  ],
]

test.each(KEPT)('what comes to a wait that lost against %s is kept', async (_name, race) => {
  const handler: Handler = async context => {
    await race(context)
    await context.step.waitForSignal('go', 'go')
    const next = await context.step.waitForSignal('m2', 'msg')
    return next?.data
  }

  expect(await endOf(handler, [{ m: 'hello' }, { go: 1 }])).toBe('hello')
})

test('a wait that was raced with a tag and looked at besides has what comes to it', async () => {
  const handler: Handler = async ({ step }) => {
    const got: unknown[] = []
    const message = step.waitForSignal('m', 'msg')
    message.then(news => got.push(news?.data))
    await Promise.race([message.then(news => ({ news })), step.sleep('patience', 1)])
    await step.waitForSignal('go', 'go')
    got.push((await step.waitForSignal('m2', 'msg'))?.data)
    return got
  }

  expect(await endOf(handler, [{ patience: COMPLETED }, { m: 'A' }, { go: 1 }, { m2: 'B' }])).toEqual(['A', 'B'])
})

test('a tag that takes its time decides its race when it is done', async () => {
  const handler: Handler = async ({ step }) => {
    const winner = await Promise.race([
      step.waitForSignal('m', 'msg').then(news => news?.data),
      step.sleep('patience', 1).then(() => step.sleep('more', 1)),
    ])
    return winner ?? (await step.waitForSignal('m2', 'msg'))?.data
  }

  expect(await endOf(handler, [{ patience: COMPLETED }, { m: 'in time' }])).toBe('in time')
})

test('who listens again to a wait whose message went to another gets the next one', async () => {
  const handler: Handler = async ({ step }) => {
    const first = step.waitForSignal('first', 'msg')
    await Promise.race([first, step.sleep('patience', 1)])
    await step.waitForSignal('go', 'go')
    const second = await step.waitForSignal('second', 'msg')
    const again = await Promise.race([first, step.sleep('more', 1)])
    return [second?.data, again?.data]
  }

  expect(await endOf(handler, [{ patience: COMPLETED }, { first: 'A' }, { go: 1 }, { second: 'B' }])).toEqual([
    'A',
    'B',
  ])
})

test('a wait that lost changes places with an open one, and has what comes for that', async () => {
  const handler: Handler = async ({ step }) => {
    const old = step.waitForSignal('old', 'msg')
    await Promise.race([old, step.sleep('patience', 1)])
    const young = await step.waitForSignal('young', 'msg')
    return [young?.data, (await old)?.data]
  }

  expect(await endOf(handler, [{ patience: COMPLETED }, { old: 'A' }, { young: 'B' }])).toEqual(['A', 'B'])
})

const CONSUMERS: [string, boolean, (promise: Promise<unknown>, other: Promise<unknown>) => unknown][] = [
  ['nobody', false, () => {}],
  ['who catches its failure', false, promise => void promise.catch(() => {})],
  ['who awaits it', true, async promise => void (await promise)],
  [
    'who awaits it beside a race',
    true,
    (promise, over) => void [(async () => await promise)(), Promise.race([promise, over])],
  ],
  ['a function', true, promise => void promise.then(() => {})],
  ['a function at the end', true, promise => void promise.finally(() => {})],
  ['a race that is over', false, (promise, over) => void Promise.race([promise, over])],
  ['a race that is over, at its end', false, (promise, over) => void Promise.race([promise.finally(() => {}), over])],
  ['a race that is not over', true, promise => void Promise.race([promise, new Promise(() => {})])],
  ['any of which one is there', false, (promise, over) => void Promise.any([promise, over])],
  ['all of which one is there', true, (promise, over) => void Promise.all([promise, over])],
  ['all settled', true, (promise, over) => void Promise.allSettled([promise, over])],
  [
    'two races, one of them over',
    true,
    (promise, over) => void [Promise.race([promise, over]), Promise.race([promise])],
  ],
]

test.each(CONSUMERS)('a wait with %s is heard: %s', async (_name, isHeard, consume) => {
  const listening = { over: new WeakSet<object>(), onListen: () => {} }
  const { promise } = StepPromise.pending(listening)
  const other = StepPromise.pending(listening)

  consume(promise, other.promise)
  other.resolve('over')
  await nextMacrotask()

  expect(promise.isHeard).toBe(isHeard)
})

test('all of which one has failed listens to no other', async () => {
  const listening = { over: new WeakSet<object>(), onListen: () => {} }
  const { promise } = StepPromise.pending(listening)
  const other = StepPromise.pending(listening)

  const failing = Promise.all([promise, other.promise])
  other.reject(new Error('no'))

  await expect(failing).rejects.toThrow('no')
  expect(promise.isHeard).toBe(false)
})

test('the promise of a step is a promise like any other', async () => {
  const listening = { over: new WeakSet<object>(), onListen: () => {} }
  const { promise, resolve } = StepPromise.pending(listening)

  const ends = [promise, promise.then(n => Number(n) + 1), promise.finally(() => 'ignored'), promise.catch(() => 'no')]
  resolve(1)

  expect(promise).toBeInstanceOf(Promise)
  expect(promise.constructor).toBe(Promise)
  expect(await Promise.all(ends)).toEqual([1, 2, 1, 1])
})
