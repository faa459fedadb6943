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
