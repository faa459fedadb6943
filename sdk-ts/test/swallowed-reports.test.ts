/** Reports to something that accepts connections and never answers. The clock is moved, sockets are real. */
import type { Entry } from '@stepwell/protocol'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { executeTurn } from '../src/turn.ts'
import { timed, until, useMovedClock } from './clock.ts'
import { anEngine, aSignal, aTurnOf, type Handler, THREE_STEPS } from './harness.ts'
import { AT } from './requests.ts'

/** The engine gives up a turn that shows no life for 30 seconds. */
const LIFE_MS = 30_000

beforeEach(useMovedClock)
afterEach(() => void vi.useRealTimers())

const never = new Promise<never>(() => {})

test('the step goes into the response long before the engine gives the turn up, and runs once', async () => {
  const bodies: string[] = []
  const engine = await anEngine(async ({ step }) => {
    for (const id of ['a', 'b', 'c']) await step.run(id, () => bodies.push(id))
  })
  engine.gate = never
  const run = engine.start('fn')

  const first = await timed(engine.turn(run))
  const second = await timed(engine.turn(run))
  engine.gate = Promise.resolve()
  const third = await engine.turn(run)

  expect(first.value).toMatchObject({ state: 'continue', n: 2, ops: [{ op: 'step', key: 'a' }] })
  expect(first.tookMs).toBeLessThanOrEqual(10_000)
  expect(second.value).toMatchObject({ state: 'continue', ops: [{ op: 'step', key: 'b' }] })
  expect(second.tookMs).toBeLessThanOrEqual(1_500)
  expect(third.state).toBe('done')
  expect(bodies).toEqual(['a', 'b', 'c'])
})

test('many turns at once wait no longer than one', async () => {
  const engine = await anEngine(THREE_STEPS)
  engine.gate = never
  const early = timed(engine.turn(engine.start('fn')))
  await until(() => engine.batches.length > 0)

  const turns = await timed(Promise.all(Array.from({ length: 20 }, () => engine.turn(engine.start('fn')))))
  await early

  expect(turns.value.map(report => report.state)).toEqual(turns.value.map(() => 'continue'))
  expect(turns.tookMs).toBeLessThanOrEqual(10_000)
})

test('a URL that has been away for half a minute is tried with patience again', async () => {
  const engine = await anEngine(THREE_STEPS)
  engine.gate = never
  const run = engine.start('fn')
  await timed(engine.turn(run))
  await vi.advanceTimersByTimeAsync(LIFE_MS)
  engine.batches.length = 0
  const gate = aSignal()
  engine.gate = gate.promise

  const turn = engine.turn(run)
  await until(() => engine.batches.length > 0)
  await vi.advanceTimersByTimeAsync(2_000)
  gate.resolve()

  expect((await turn).state).toBe('done')
})

test('a commit that takes 2 seconds is no absence', async () => {
  const engine = await anEngine(({ step }) => step.run('a', () => 1))
  const gate = aSignal()
  engine.gate = gate.promise

  const turn = engine.turn(engine.start('fn'))
  await until(() => engine.batches.length > 0)
  await vi.advanceTimersByTimeAsync(2_000)
  gate.resolve()

  expect((await turn).state).toBe('done')
  expect(engine.batches).toHaveLength(1)
})

/** Two bodies; the slow one is still running when the report of the other is lost. */
function aTurnWithALostReport(gate: Promise<void>, losses: number, refusal: 'unreachable' | 'undelivered') {
  const handler: Handler = ({ step }) =>
    Promise.all([step.run('quick', () => 'quick'), step.run('slow', () => gate.then(() => 'slow'))])
  const sent: { n: number; keys: string[]; atMs: number }[] = []
  const startMs = performance.now()
  let seq = 1
  const ended = executeTurn({
    ...aTurnOf(handler, { concurrency: 2 }),
    deliver: async text => {
      const { n, ops } = JSON.parse(text) as { n: number; ops: { key: string }[] }
      sent.push({ n, keys: ops.map(op => op.key), atMs: performance.now() - startMs })
      if (sent.length <= losses) return { kind: refusal, message: 'lost' }
      const entries = ops.map(({ key }): Entry => {
        seq += 1
        return { seq, turn: 1, at: AT, type: 'step_completed', key, saw: 1 }
      })
      return { kind: 'acknowledged', entries, shouldYield: false }
    },
  })
  return { sent, ended }
}

test('a report that was lost is sent again while a body runs, so that the engine sees life', async () => {
  const gate = aSignal()
  const { sent, ended } = aTurnWithALostReport(gate.promise, 2, 'unreachable')

  await until(() => sent.length > 0)
  await passSeconds(7)
  gate.resolve()
  const end = await ended

  expect(sent.slice(0, 3)).toEqual([0, 3_000, 6_000].map(atMs => ({ n: 1, keys: ['quick'], atMs })))
  expect(sent[3]).toMatchObject({ n: 2, keys: ['slow'] })
  expect(end.kind === 'report' && JSON.parse(end.text)).toMatchObject({ state: 'done', n: 3 })
})

test('a report that never gets through goes into the response, before what ended later', async () => {
  const gate = aSignal()
  const { sent, ended } = aTurnWithALostReport(gate.promise, Number.POSITIVE_INFINITY, 'unreachable')

  await until(() => sent.length > 0)
  await passSeconds(4)
  gate.resolve()
  const end = await ended

  expect(sent.map(({ n }) => n)).toEqual([1, 1])
  expect(end.kind === 'report' && JSON.parse(end.text)).toMatchObject({
    state: 'continue',
    n: 2,
    ops: [{ key: 'quick' }, { key: 'slow' }],
  })
})

test('an engine that refuses the report is not asked again', async () => {
  const gate = aSignal()
  const { sent, ended } = aTurnWithALostReport(gate.promise, Number.POSITIVE_INFINITY, 'undelivered')

  await until(() => sent.length > 0)
  await passSeconds(10)
  gate.resolve()
  const end = await ended

  expect(sent).toHaveLength(1)
  expect(end.kind === 'report' && JSON.parse(end.text)).toMatchObject({ state: 'continue', n: 2 })
})

async function passSeconds(count: number): Promise<void> {
  for (let second = 0; second < count; second += 1) {
    await vi.advanceTimersByTimeAsync(1_000)
    await new Promise(resolve => setImmediate(resolve))
  }
}
