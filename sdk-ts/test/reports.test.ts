import { describe, expect, test, vi } from 'vitest'
import { Scopes } from '../src/scopes.ts'
import { BodyPlaces } from '../src/step-body.ts'
import { executeTurn } from '../src/turn.ts'
import type { Trouble } from './engine-double.ts'
import { aFunction, anEngine, aSignal, type Handler } from './harness.ts'

const THREE_STEPS: Handler = async ({ step }) => {
  const a = await step.run('a', () => 'a')
  const b = await step.run('b', () => 'b')
  return a + b + (await step.run('c', () => 'c'))
}

describe('reports that do not get through', () => {
  test.each<[string, Trouble[]]>([
    ['a 500', ['status-500']],
    ['a lost connection', ['drop']],
    ['a lost answer', ['drop-after-commit']],
    ['several in a row', ['status-500', 'drop', 'drop-after-commit']],
  ])('are sent again under the same number: %s', async (_name, troubles) => {
    const bodies: string[] = []
    const engine = await anEngine(async ({ step }) => {
      for (const id of ['a', 'b']) await step.run(id, () => bodies.push(id))
    })
    engine.troubles.push(...troubles)
    const run = engine.start('fn')

    await engine.turn(run)

    expect(run.ended).toEqual({})
    expect(engine.turns).toHaveLength(1)
    expect(bodies).toEqual(['a', 'b'])
    expect(engine.batches.map(batch => batch.reports[0]?.n)).toEqual([...troubles.map(() => 1), 1, 2])
  })

  test.each<[string, Trouble[]]>([
    ['no answer at all', ['drop', 'drop', 'drop', 'drop']],
    ['always a 500', ['status-500', 'status-500', 'status-500', 'status-500']],
    ['an answer that was lost each time', ['drop-after-commit', 'drop', 'drop', 'drop']],
    ['an answer that is none', ['garbage']],
    ['an answer that is not signed', ['unsigned']],
    ['another engine process', ['not-holder']],
  ])('go into the response, and the run goes on in the next turn: %s', async (_name, troubles) => {
    const bodies: string[] = []
    const engine = await anEngine(async ({ step }) => {
      for (const id of ['a', 'b', 'c']) await step.run(id, () => bodies.push(id))
    })
    engine.troubles.push(...troubles)
    const run = engine.start('fn')

    const report = await engine.turn(run)
    await engine.drive(run)

    expect(report).toMatchObject({ state: 'continue', n: 2, ops: [{ op: 'step', key: 'a' }] })
    expect(run.ended).toEqual({})
    expect(bodies).toEqual(['a', 'b', 'c'])
  })

  test('an engine that takes no reports gets one step per turn', async () => {
    const engine = await anEngine(THREE_STEPS)
    engine.troubles.push(...Array.from({ length: 20 }, () => 'not-holder' as const))

    const run = await engine.drive(engine.start('fn'))

    expect(run.ended).toEqual({ output: 'abc' })
    expect(engine.turns.map(({ report }) => report.state)).toEqual(['continue', 'continue', 'continue', 'done'])
  })

  test('a report that was overtaken makes the rest of the turn go into the response', async () => {
    const engine = await anEngine(THREE_STEPS)
    const run = engine.start('fn')
    engine.onReport = report => {
      // Recorded before this report is looked at, and left out of its answer.
      if (report.n === 2)
        run.journal.push({ seq: 3, turn: 1, at: '2026-01-01T00:00:00.000Z', type: 'step_due', key: 'a' })
      return undefined
    }

    const report = await engine.turn(run)
    await engine.drive(run)

    expect(report.state).toBe('continue')
    expect(run.ended).toEqual({ output: 'abc' })
  })

  test('a run that another process has is left alone: 409, signals fire, nothing more is sent', async () => {
    const reasons: string[] = []
    const gate = aSignal()
    const engine = await anEngine(({ step }) =>
      Promise.all([
        step.run('slow', async ({ signal }) => {
          signal.addEventListener('abort', () => reasons.push(String(signal.reason)))
          await gate.promise
        }),
        step.run('quick', () => 1),
      ]),
    )
    engine.troubles.push('stale')

    const { status, text } = await engine.send(engine.start('fn'))
    gate.resolve()

    expect(status).toBe(409)
    expect(JSON.parse(text)).toMatchObject({ code: 'stale_epoch', status: 409 })
    expect(reasons).toEqual(['Error: another holder has the run'])
    expect(engine.batches).toHaveLength(1)
  })
})

describe('a turn that has to end early', () => {
  test('starts nothing after the engine asked it to yield', async () => {
    const engine = await anEngine(THREE_STEPS)
    engine.onReport = report => (report.n === 2 ? { yield: true } : undefined)
    const run = engine.start('fn')

    const report = await engine.turn(run)

    expect(report).toMatchObject({ state: 'continue', ops: [], n: 3 })
    expect(run.types()).toEqual(['run_started', 'step_completed', 'step_completed'])
  })

  test('lets bodies that run end before it yields', async () => {
    const gate = aSignal()
    const engine = await anEngine(async ({ step }) => {
      await Promise.all([step.run('slow', () => gate.promise), step.run('quick', () => 1)])
      return 'end'
    })
    engine.onReport = () => {
      gate.resolve()
      return { yield: true }
    }
    const run = engine.start('fn')

    const report = await engine.turn(run)
    await engine.drive(run)

    expect(report.state).toBe('continue')
    expect(report.ops).toMatchObject([{ op: 'step', key: 'slow' }])
    expect(run.ended).toEqual({ output: 'end' })
  })

  test('starts at least one body when the budget is used up, and no second one', async () => {
    const engine = await anEngine(THREE_STEPS)

    const run = await engine.drive(engine.start('fn'), { budgetMs: 0 })

    expect(run.ended).toEqual({ output: 'abc' })
    expect(engine.turns.map(({ report }) => [report.state, report.ops.length])).toEqual([
      ['continue', 1],
      ['continue', 1],
      ['continue', 1],
      ['done', 1],
    ])
  })

  test('waits as ever when it was asked to yield and nothing is left to run', async () => {
    const engine = await anEngine(({ step }) =>
      Promise.all([step.run('a', () => 1), step.sleep('s', '1h').then(() => step.run('b', () => 2))]),
    )
    engine.onReport = () => ({ yield: true })
    const run = engine.start('fn')

    const report = await engine.turn(run)

    expect(report.state).toBe('waiting')
    expect((await engine.drive(run)).ended).toEqual({ output: [1, 2] })
  })
})

describe('reports of one process', () => {
  test('are coalesced: one POST in flight, the next takes what came meanwhile', async () => {
    const gate = aSignal()
    const engine = await anEngine(({ step }) => step.run('a', () => 1))
    engine.gate = gate.promise
    const driving = Array.from({ length: 50 }, () => engine.turn(engine.start('fn')))
    await vi.waitFor(() => expect(engine.batches).toHaveLength(1))

    gate.resolve()
    await Promise.all(driving)

    expect(engine.batches.map(batch => batch.reports.length)).toEqual([1, 49])
  })

  test('are as large as one body may be, and what is larger goes alone', async () => {
    const large = 'x'.repeat(1_048_576)
    const engine = await anEngine(({ step }) =>
      Promise.all(Array.from({ length: 6 }, (_, n) => step.run(`n-${n}`, () => large))),
    )

    const run = await engine.drive(engine.start('fn'))

    expect(run.ended?.error).toMatchObject({ code: 'step_output_too_large' })
    expect(run.types().filter(type => type === 'step_completed')).toHaveLength(6)
    for (const batch of engine.batches) expect(JSON.stringify(batch).length).toBeLessThan(4 * 1024 * 1024)
  })

  test('are sent one by one when the engine refuses them as a whole', async () => {
    const gate = aSignal()
    const engine = await anEngine(({ step }) => step.run('a', () => 1))
    engine.gate = gate.promise
    engine.refusesBatch = batch => batch.reports.some(report => report.run === 'run_3')
    const runs = Array.from({ length: 5 }, () => engine.start('fn'))
    const turns = runs.map(run => engine.turn(run))
    await vi.waitFor(() => expect(engine.batches).toHaveLength(1))

    gate.resolve()
    const reports = await Promise.all(turns)

    expect(reports.map(report => report.state)).toEqual(['done', 'done', 'continue', 'done', 'done'])
  })

  test('carry on where turns fail together with others', async () => {
    const engine = await anEngine(THREE_STEPS)
    engine.troubles.push('drop', 'drop', 'drop', 'drop')

    const runs = await Promise.all(Array.from({ length: 10 }, () => engine.drive(engine.start('fn'))))

    expect(runs.map(run => run.ended)).toEqual(runs.map(() => ({ output: 'abc' })))
  })
})

test('a body that runs for long sends a sign of life every 3 seconds', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  const gate = aSignal()
  const sentAtMs: number[] = []
  const at = '2026-01-01T00:00:00.000Z'
  const startedAtMs = performance.now()
  const ended = executeTurn({
    turn: {
      kind: 'turn',
      workspace: 'a/dev',
      function: 'fn',
      run: { id: 'run_1', generation: 1 },
      turn: 1,
      epoch: 'e',
      budgetMs: 10_000,
      reportUrl: 'http://127.0.0.1:1/',
      journal: [{ seq: 1, turn: 1, at, type: 'run_started', data: { id: 'e', name: 'n', data: {}, ts: at } }],
    },
    definition: aFunction(({ step }) => step.run('slow', () => gate.promise)),
    deliver: async text => {
      const ops = JSON.parse(text).ops as unknown[]
      if (ops.length === 0) sentAtMs.push(performance.now() - startedAtMs)
      const entry = { seq: 2, turn: 1, at, type: 'step_completed' as const, key: 'slow', saw: 1 }
      return { kind: 'acknowledged', entries: ops.length === 0 ? [] : [entry], shouldYield: false }
    },
    places: new BodyPlaces(1),
    scopes: new Scopes(),
  })

  for (let second = 0; second < 13; second += 1) {
    await new Promise(resolve => setImmediate(resolve))
    await vi.advanceTimersByTimeAsync(1_000)
  }
  gate.resolve()
  await ended

  expect(sentAtMs).toEqual([3_000, 6_000, 9_000, 12_000])
  vi.useRealTimers()
})
