import { expect, test } from 'vitest'
import type { EngineRun } from './engine-run.ts'
import { anEngine, aSignal } from './harness.ts'

function askToEnd(run: EngineRun): void {
  run.inbox.push({ type: 'cancel_requested', data: { by: 'request', message: 'enough' } })
}

test('a step whose result is recorded together with the wish to end is undone', async () => {
  const undone: unknown[] = []
  const engine = await anEngine(({ step }) =>
    step.run('charge', () => 'receipt', { undo: receipt => void undone.push(receipt) }),
  )
  const run = engine.start('fn')
  engine.onReport = report => {
    if (report.ops.some(op => op.op === 'step' && op.key === 'charge')) askToEnd(run)
    return undefined
  }

  await engine.drive(run)

  expect(run.types()).toEqual(['run_started', 'cancel_requested', 'step_completed', 'step_completed'])
  expect(undone).toEqual(['receipt'])
  expect(run.ended).toEqual({ cancelled: true })
})

test('a step that is recorded after the step by which the handler failed is undone', async () => {
  const undone: unknown[] = []
  const gate = aSignal()
  const engine = await anEngine(({ step }) =>
    Promise.all([
      step.run(
        'fails',
        async () => {
          await gate.promise
          throw new Error('full')
        },
        { retries: 0 },
      ),
      step.run(
        'works',
        async () => {
          await gate.promise
          await null
          return 'booked'
        },
        { undo: booking => void undone.push(booking) },
      ),
    ]),
  )
  const run = engine.start('fn')
  gate.resolve()

  await engine.drive(run)

  expect(run.types()).toEqual(['run_started', 'step_failed', 'step_completed', 'step_completed'])
  expect(undone).toEqual(['booked'])
  expect(run.ended?.error?.message).toBe('full')
})

test('a turn that asks for a detached child and may not go on does not say that it waits', async () => {
  const engine = await anEngine(async ({ step }) => {
    await step.run('first', () => 1)
    await Promise.all([step.sleep('rest', '1h'), step.invoke('child', { function: 'child', detached: true })])
  })
  engine.onReport = () => ({ yield: true })
  const run = engine.start('fn')

  const report = await engine.turn(run)

  expect(report.ops.map(op => op.op)).toEqual(['sleep', 'invoke'])
  expect(report.state).toBe('continue')
})

/** A handler whose step `fails` fails while the body of `books` runs; `books` may end when it has been told. */
async function leftWhileBooking(books: (signal: AbortSignal) => unknown) {
  const undone: unknown[] = []
  const started = aSignal()
  const engine = await anEngine(async ({ step }) => {
    await step.run('before', () => 'before', { undo: output => void undone.push(output) })
    await Promise.all([
      step.run('fails', () => started.promise.then(() => Promise.reject(new Error('full'))), { retries: 0 }),
      step.run(
        'books',
        async ({ signal }) => {
          const told = aSignal()
          signal.addEventListener('abort', () => told.resolve())
          started.resolve()
          await told.promise
          return books(signal)
        },
        { undo: output => void undone.push(output) },
      ),
    ])
  })
  const run = engine.start('fn')
  return { engine, run, undone }
}

test('a body with an undo that runs when the handler fails is let finish, and undone', async () => {
  const { engine, run, undone } = await leftWhileBooking(() => 'booked')

  await engine.drive(run)

  expect(undone.sort()).toEqual(['before', 'booked'])
  expect(run.ended?.error?.message).toBe('full')
  expect(engine.turns).toHaveLength(1)
})

test('a body with an undo that fails when it is told to stop has done nothing', async () => {
  const { engine, run, undone } = await leftWhileBooking(signal => Promise.reject(signal.reason))

  await engine.drive(run)

  expect(undone).toEqual(['before'])
  expect(run.types().filter(type => type === 'step_failed' || type === 'step_retrying')).toEqual(['step_failed'])
  expect(run.ended?.error?.message).toBe('full')
})

test('a body with an undo that ends when the turn may not go on is undone in the next', async () => {
  const { engine, run, undone } = await leftWhileBooking(() => 'booked')
  engine.onReport = report => (report.ops.some(op => 'key' in op && op.key === 'fails') ? { yield: true } : undefined)

  await engine.drive(run)

  expect(undone.sort()).toEqual(['before', 'booked'])
  expect(run.ended?.error?.message).toBe('full')
  expect(engine.turns.length).toBeGreaterThan(1)
})

test('a body with an undo that runs when somebody wants the run to end is let finish, and undone', async () => {
  const undone: unknown[] = []
  const engine = await anEngine(({ step }) =>
    Promise.all([
      step.run('quick', () => 'quick'),
      step.run(
        'books',
        ({ signal }) => new Promise(resolve => signal.addEventListener('abort', () => resolve('booked'))),
        { undo: output => void undone.push(output) },
      ),
    ]),
  )
  const run = engine.start('fn')
  engine.onReport = report => {
    if (report.ops.some(op => 'key' in op && op.key === 'quick')) askToEnd(run)
    return undefined
  }

  await engine.drive(run)

  expect(undone).toEqual(['booked'])
  expect(run.ended).toEqual({ cancelled: true })
})

test('a run that goes on anew forgets the bodies that run', async () => {
  const undone: unknown[] = []
  const gate = aSignal()
  const engine = await anEngine(({ step, run }) => {
    if (run.generation > 1) return 'next'
    void step.run('books', () => gate.promise, { undo: () => void undone.push('undone') })
    return step.run('quick', () => 'quick').then(() => step.continueAsNew({}))
  })
  const run = engine.start('fn')

  const report = await engine.turn(run)
  gate.resolve()

  expect(report.ops.map(({ op }) => op)).toEqual(['continue_as_new'])
  expect(undone).toEqual([])
})
