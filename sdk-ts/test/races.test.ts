import fc from 'fast-check'
import { expect, test } from 'vitest'
import { anEngine, aSignal } from './harness.ts'

test('parallel steps run at the same time and give their values in the order of the array', async () => {
  const both = aSignal()
  let started = 0
  const meet = async () => {
    started += 1
    if (started === 2) both.resolve()
    await both.promise
  }
  const engine = await anEngine(({ step }) =>
    Promise.all([
      step.run('a', async () => {
        await meet()
        return 'a'
      }),
      step.run('b', async () => {
        await meet()
        return 'b'
      }),
    ]),
  )

  const run = await engine.drive(engine.start('fn'))

  expect(run.ended).toEqual({ output: ['a', 'b'] })
})

test('a step that has ended is reported while others run', async () => {
  const gate = aSignal()
  const engine = await anEngine(({ step }) =>
    Promise.all([step.run('slow', () => gate.promise), step.run('quick', () => 'quick')]),
  )
  const run = engine.start('fn')
  engine.onReport = report => {
    if (report.ops.some(op => op.op === 'step' && op.key === 'quick')) gate.resolve()
    return undefined
  }

  await engine.turn(run)

  expect(run.journal.slice(1).map(entry => 'key' in entry && entry.key)).toEqual(['quick', 'slow'])
})

test('a race between a body that runs and a sleep is decided when the sleep is over', async () => {
  const gate = aSignal()
  const engine = await anEngine(({ step }) =>
    Promise.race([step.run('slow', () => gate.promise), step.sleep('timeout', '30ms').then(() => 'timed out')]),
  )
  const run = engine.start('fn')
  const questions: number[] = []
  engine.onReport = report => {
    if (report.ops.length > 0) return undefined
    questions.push(report.n)
    run.letNextDueArrive()
    return undefined
  }

  const report = await engine.turn(run)
  gate.resolve()

  expect(report).toMatchObject({ state: 'done', ops: [{ op: 'finish', output: 'timed out' }] })
  expect(questions).toEqual([2])
  expect(report.n).toBe(3)
})

test('the winner of a race is the same on every replay, whatever the branches do afterwards', async () => {
  const engine = await anEngine(async ({ step }) => {
    const branch = async (id: string) => {
      await step.run(id, () => id)
      await null
      await step.run(`${id}-2`, () => id)
      return id
    }
    return Promise.race([branch('a'), branch('b'), branch('c')])
  })

  await fc.assert(
    fc.asyncProperty(
      fc.shuffledSubarray(['a', 'b', 'c'], { minLength: 3, maxLength: 3 }),
      fc.shuffledSubarray(['a', 'b', 'c'], { minLength: 1, maxLength: 3 }),
      async (first, second) => {
        const run = engine.start('fn')
        const head = { turn: 1, at: '2026-01-01T00:00:00.000Z', type: 'step_completed' as const }
        for (const id of first) run.journal.push({ ...head, seq: run.journal.length + 1, key: id, saw: 1, data: id })
        for (const id of second) {
          const saw = 2 + first.indexOf(id)
          run.journal.push({ ...head, seq: run.journal.length + 1, key: `${id}-2`, saw, data: id })
        }

        await engine.turn(run)

        expect(run.ended).toEqual({ output: second[0] })
      },
    ),
    { numRuns: 30 },
  )
})

test('live and replayed, a run asks for the same in the same order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(3), { minLength: 1, maxLength: 12 }), async delays => {
      const finished: string[][] = []
      const engine = await anEngine(async ({ step }) => {
        const order: string[] = []
        finished.push(order)
        await Promise.all(
          delays.map(async (delay, at) => {
            await step.run(`s${at}`, async () => {
              for (let n = 0; n < delay; n += 1) await new Promise(resolve => setImmediate(resolve))
            })
            order.push(`s${at}`)
          }),
        )
        await step.sleep('rest', '1s')
        return order
      })

      const run = await engine.drive(engine.start('fn'))

      expect(finished).toHaveLength(2)
      expect(finished[1]).toEqual(finished[0])
      expect(run.ended).toEqual({ output: finished[0] })
    }),
    { numRuns: 20 },
  )
})

test('losers do not keep the run alive', async () => {
  const engine = await anEngine(({ step }) =>
    Promise.race([
      step.waitForEvent('never', { event: 'never' }),
      step.sleep('long', '1d').then(() => 'long'),
      step.run('quick', () => 'quick'),
    ]),
  )
  const run = engine.start('fn')

  const report = await engine.turn(run)

  expect(report).toMatchObject({ state: 'done', ops: [{ op: 'finish', output: 'quick' }] })
})

test('the body of a loser is aborted when the handler ends', async () => {
  const reasons: unknown[] = []
  const gate = aSignal()
  const engine = await anEngine(({ step }) =>
    Promise.race([
      step.run('loser', async ({ signal }) => {
        signal.addEventListener('abort', () => reasons.push(signal.reason))
        await gate.promise
      }),
      step.run('winner', () => 'won'),
    ]),
  )
  const run = engine.start('fn')

  await engine.turn(run)
  gate.resolve()

  expect(run.ended).toEqual({ output: 'won' })
  expect(reasons).toEqual([expect.objectContaining({ message: expect.stringContaining('has ended') })])
})

test('a step started before a sleep and awaited after it keeps its value', async () => {
  let count = 0
  const engine = await anEngine(async ({ step }) => {
    const early = step.run('early', () => {
      count += 1
      return count
    })
    await step.sleep('rest', '1h')
    return early
  })

  const run = await engine.drive(engine.start('fn'))

  expect(run.ended).toEqual({ output: 1 })
  expect(count).toBe(1)
})
