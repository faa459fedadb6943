import { AsyncLocalStorage } from 'node:async_hooks'
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import type { StepContext } from '../src/index.ts'
import { anApp, anEngine, aSignal } from './harness.ts'

test('the sample of the front page runs to its end', async () => {
  const mails: unknown[] = []
  const loads: unknown[] = []
  const engine = await anEngine(async ({ event, step }) => {
    const user = await step.run('load-user', () => {
      loads.push(event.data.id)
      return { id: event.data.id, name: 'Ada' }
    })
    await step.sleep('cooldown', '2d')
    const ok = await step.waitForEvent('approve', {
      event: 'approval.received',
      match: { userId: user.id },
      timeout: '7d',
    })
    await step.run('send-email', () => mails.push(user))
    return { approved: ok !== null }
  })
  const run = engine.start('fn', { name: 'user.created', data: { id: 1 } })

  const first = await engine.turn(run)
  run.letNextDueArrive()
  const second = await engine.turn(run)
  run.sendEvent({ name: 'approval.received', data: { userId: 1 } })
  await engine.turn(run)

  expect(first).toMatchObject({ state: 'waiting', ops: [{ op: 'sleep', key: 'cooldown', saw: 2, ms: 172_800_000 }] })
  expect(second).toMatchObject({
    state: 'waiting',
    ops: [{ op: 'wait', key: 'approve', saw: 4, match: { userId: 1 }, timeoutMs: 604_800_000 }],
  })
  expect(run.ended).toEqual({ output: { approved: true } })
  expect(mails).toEqual([{ id: 1, name: 'Ada' }])
  expect(loads).toEqual([1])
})

test('a wait that times out gives null', async () => {
  const engine = await anEngine(({ step }) =>
    step.waitForEvent('approve', { event: 'approval.received', timeout: '7d' }),
  )

  const run = await engine.drive(engine.start('fn'))

  expect(run.ended).toEqual({ output: null })
})

test('each step is recorded before the next one starts, in one turn', async () => {
  const entriesAtStart: number[] = []
  const engine = await anEngine(async ({ step }) => {
    for (let at = 0; at < 4; at += 1) await step.run('next', () => entriesAtStart.push(run.journal.length))
  })
  const run = engine.start('fn')

  await engine.turn(run)

  expect(run.ended).toEqual({})
  expect(entriesAtStart).toEqual([1, 2, 3, 4])
  expect(run.journal.map(entry => ('key' in entry ? entry.key : ''))).toEqual([
    '',
    'next',
    'next#2',
    'next#3',
    'next#4',
  ])
})

test('a body is given its attempt, a signal and a key for idempotency', async () => {
  const contexts: StepContext[] = []
  const engine = await anEngine(async ({ step }) => {
    await step.run('charge', context => {
      contexts.push(context)
      if (context.attempt < 3) throw new Error('not yet')
    })
    await step.run('charge', context => void contexts.push(context))
  })

  await engine.drive(engine.start('fn'))

  expect(contexts.map(({ attempt, idempotencyKey }) => [attempt, idempotencyKey])).toEqual([
    [1, 'run_1:1:charge'],
    [2, 'run_1:1:charge'],
    [3, 'run_1:1:charge'],
    [1, 'run_1:1:charge#2'],
  ])
  expect(contexts[0]?.signal.aborted).toBe(false)
})

test('sleepUntil takes a Date, a text and milliseconds', async () => {
  const instant = '2026-03-01T12:00:00.000Z'
  const engine = await anEngine(({ step }) =>
    Promise.all([
      step.sleepUntil('date', new Date(instant)),
      step.sleepUntil('text', instant),
      step.sleepUntil('number', Date.parse(instant)),
    ]),
  )

  const report = await engine.turn(engine.start('fn'))

  expect(report.ops).toMatchObject([
    { key: 'date', until: instant },
    { key: 'text', until: instant },
    { key: 'number', until: instant },
  ])
})

test('sendEvent gives the ids of the events and goes on in the same turn', async () => {
  const engine = await anEngine(async ({ step }) => {
    const one = await step.sendEvent('one', { name: 'a', data: { n: 1 } })
    const two = await step.sendEvent('two', [{ name: 'b', id: 'mine' }, { name: 'c' }])
    return [...one, ...two]
  })
  const run = engine.start('fn')

  await engine.turn(run)

  expect(run.ended).toEqual({ output: ['evt_one_0', 'mine', 'evt_two_1'] })
  expect(engine.batches.flatMap(batch => batch.reports.flatMap(report => report.ops))).toMatchObject([
    { op: 'send', key: 'one', events: [{ name: 'a', data: { n: 1 } }] },
    { op: 'send', key: 'two', events: [{ name: 'b', id: 'mine' }, { name: 'c' }] },
  ])
})

test('what is sent is what was passed, whatever happens to the object later', async () => {
  const engine = await anEngine(async ({ step }) => {
    const data = { n: 1 }
    const sent = step.sendEvent('send', { name: 'a', data })
    data.n = 2
    await sent
  })

  await engine.turn(engine.start('fn'))

  expect(engine.batches[0]?.reports[0]?.ops).toMatchObject([{ events: [{ data: { n: 1 } }] }])
})

test('a thousand steps one after the other', async () => {
  const engine = await anEngine(async ({ step }) => {
    let sum = 0
    for (let n = 0; n < 1_000; n += 1) sum += await step.run('add', () => n)
    return sum
  })
  const run = engine.start('fn')

  await engine.turn(run, { budgetMs: 60_000 })

  expect(run.ended).toEqual({ output: 499_500 })
  expect(engine.turns).toHaveLength(1)
})

test('five hundred steps at once take few reports', async () => {
  const engine = await anEngine(({ step }) =>
    Promise.all(Array.from({ length: 500 }, (_, n) => step.run(`n-${n}`, () => n))),
  )
  const run = engine.start('fn')

  await engine.turn(run)

  expect(run.ended).toEqual({ output: Array.from({ length: 500 }, (_, n) => n) })
  expect(engine.batches.length).toBeLessThan(10)
})

test('no more bodies run at a time than concurrency allows, over all turns of the process', async () => {
  let running = 0
  let most = 0
  const engine = await anEngine(
    ({ step }) =>
      Promise.all(
        Array.from({ length: 10 }, (_, n) =>
          step.run(`n-${n}`, async () => {
            running += 1
            most = Math.max(most, running)
            await new Promise(resolve => setImmediate(resolve))
            running -= 1
          }),
        ),
      ),
    { concurrency: 3 },
  )

  await Promise.all([1, 2, 3].map(() => engine.drive(engine.start('fn'))))

  expect(most).toBe(3)
})

test('a body runs in the async context of its own request, also when it waited for a place', async () => {
  const requests = new AsyncLocalStorage<string>()
  const seen: unknown[] = []
  const app = anApp(({ event, step }) => step.run('look', () => void seen.push([event.data, requests.getStore()])), {
    concurrency: 1,
  })
  const engine = await anEngine(() => {})
  engine.deploy(async request => {
    const { journal } = (await request.clone().json()) as { journal: { data: { data: string } }[] }
    return requests.run(journal[0]?.data.data ?? '', () => app(request))
  })

  await Promise.all(['a', 'b', 'c'].map(data => engine.drive(engine.start('fn', { data }))))

  const reports = engine.batches.flatMap(batch => batch.reports)
  expect(seen).toEqual([
    ['a', 'a'],
    ['b', 'b'],
    ['c', 'c'],
  ])
  // They were woken when a place became free, and not by their next sign of life.
  expect(reports.filter(report => report.ops.length === 0)).toEqual([])
})

test('a handler that awaits something that is no step is waited for', async () => {
  const timer = () => new Promise(resolve => setTimeout(resolve, 5))
  const engine = await anEngine(async ({ step }) => {
    await timer()
    const a = await step.run('a', () => 'a')
    await timer()
    return a + (await step.run('b', () => 'b'))
  })
  const run = engine.start('fn')

  await engine.turn(run)

  expect(run.ended).toEqual({ output: 'ab' })
  expect(engine.turns).toHaveLength(1)
})

test('a handler that awaits something else while another branch waits is not given up, live and replayed', async () => {
  const pause = () => new Promise(resolve => setTimeout(resolve, 20))
  const engine = await anEngine(async ({ step }) => {
    await Promise.race([step.waitForEvent('never', { event: 'never' }), step.run('a', () => 'a')])
    await pause()
    await step.run('b', () => 'b')
    await pause()
    return 'end'
  })
  const run = engine.start('fn')
  await engine.turn(run)
  const again = engine.start('fn')
  again.journal = structuredClone(run.journal)

  await engine.turn(again)

  expect(run.ended).toEqual({ output: 'end' })
  expect(again.ended).toEqual({ output: 'end' })
  expect(again.journal).toEqual(run.journal)
})

/** A process of its own, as vitest listens to rejections too. */
function runCrash(functionId: string): Promise<{ stdout: string; stderr: string }> {
  const crash = fileURLToPath(new URL('crash.ts', import.meta.url))
  const cwd = fileURLToPath(new URL('..', import.meta.url))
  return promisify(execFile)(process.execPath, ['--import', 'tsx', crash, functionId], { cwd })
}

test('branches that fail unobserved do not end the process', async () => {
  const { stdout, stderr } = await runCrash('floating')

  expect(stdout).toContain('{"output":"caught late broke"}')
  expect(stderr).toContain('thrown by the handler itself')
  expect(stderr).not.toContain('late broke')
})

test('a rejection that is none of a handler still ends the process', async () => {
  const ended = runCrash('outside')

  await expect(ended).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('not a promise of a handler') })
})

test('steps that are not awaited run while the handler goes on, and are forgotten when it ends', async () => {
  const gate = aSignal()
  const signals: AbortSignal[] = []
  const engine = await anEngine(async ({ step }) => {
    void step.run('forgotten', async ({ signal }) => {
      signals.push(signal)
      await gate.promise
    })
    return step.run('awaited', () => 'done')
  })
  const run = engine.start('fn')

  await engine.turn(run)
  gate.resolve()

  expect(run.ended).toEqual({ output: 'done' })
  expect(signals[0]?.aborted).toBe(true)
  expect(run.types()).toEqual(['run_started', 'step_completed'])
})
