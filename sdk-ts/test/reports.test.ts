import { describe, expect, test, vi } from 'vitest'
import { BodyPlaces } from '../src/step-body.ts'
import { executeTurn } from '../src/turn.ts'
import type { Trouble } from './engine-double.ts'
import { anEngine, aSignal, aTurnOf, type Handler, THREE_STEPS } from './harness.ts'

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

  test.each([false, true])(
    'a step runs again in the same turn while others run (entries come twice: %s)',
    async repeats => {
      const gate = aSignal()
      const attempts: number[] = []
      const engine = await anEngine(
        ({ step }) =>
          Promise.all([
            step.run('slow', () => gate.promise),
            step.run('flaky', ({ attempt }) => {
              attempts.push(attempt)
              if (attempt === 3) gate.resolve()
              else throw new Error('not yet')
            }),
          ]),
        { retries: { minDelay: '10ms' } },
      )
      engine.repeatsJournal = repeats
      engine.onReport = (report, run) => {
        if (report.ops.length === 0) run.letNextDueArrive()
        return undefined
      }
      const run = engine.start('fn')

      await engine.turn(run)

      expect(run.ended).toEqual({ output: [null, null] })
      expect(attempts).toEqual([1, 2, 3])
    },
  )

  test('nothing more is started when reports do not get through', async () => {
    const gate = aSignal()
    const started: string[] = []
    const handler: Handler = ({ step }) =>
      Promise.all(
        ['a', 'b', 'c'].map(id =>
          step.run(id, () => {
            started.push(id)
            return id === 'b' ? gate.promise : null
          }),
        ),
      )

    const end = await executeTurn({
      ...aTurnOf(handler),
      places: new BodyPlaces(1),
      deliver: async () => {
        // By then the answer has been looked at.
        setImmediate(() => setImmediate(gate.resolve))
        return { kind: 'undelivered', message: 'no' }
      },
    })

    expect(started).toEqual(['a', 'b'])
    expect(JSON.parse(end.kind === 'report' ? end.text : '{}')).toMatchObject({
      state: 'continue',
      ops: [{ key: 'a' }, { key: 'b' }],
    })
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

describe('reports of one process', () => {
  test('are coalesced: two batches in flight, the next takes what came meanwhile', async () => {
    const gate = aSignal()
    const engine = await anEngine(({ step }) => step.run('a', () => 1))
    engine.gate = gate.promise
    const driving = Array.from({ length: 50 }, () => engine.turn(engine.start('fn')))
    await vi.waitFor(() => expect(engine.batches).toHaveLength(2))

    gate.resolve()
    await Promise.all(driving)

    expect(engine.batches.map(batch => batch.reports.length)).toEqual([1, 1, 48])
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
    await vi.waitFor(() => expect(engine.batches).toHaveLength(2))

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
