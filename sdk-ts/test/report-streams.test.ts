/** Reports as frames on an upgraded connection, in good and bad times. Sockets are real; the clock is moved where it counts. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { timed, until, useMovedClock } from './clock.ts'
import type { EngineDouble } from './engine-double.ts'
import { anEngine, aSignal, type Handler, THREE_STEPS } from './harness.ts'
import type { FrameTrouble } from './stream-double.ts'

/** An engine to which the app has a stream open, and which has forgotten what came before. */
async function aStreamingEngine(handler: Handler): Promise<EngineDouble> {
  const engine = await anEngine(context =>
    context.event.name === 'warm-up' ? context.step.run('warm', () => null) : handler(context),
  )
  engine.streams.isOn = true
  while (engine.streams.batches.length === 0) await engine.drive(engine.start('fn', { name: 'warm-up' }))
  for (const list of [engine.batches, engine.streams.batches, engine.turns]) list.length = 0
  engine.runs.clear()
  return engine
}

/** Steps `a`, `b` and `c`, and how often the body of each has run. */
function countedSteps(): { bodies: string[]; handler: Handler } {
  const bodies: string[] = []
  return {
    bodies,
    async handler({ step }) {
      let all = ''
      for (const id of ['a', 'b', 'c']) {
        all += await step.run(id, () => {
          bodies.push(id)
          return id
        })
      }
      return all
    },
  }
}

describe('a report stream', () => {
  test('carries the reports after the first one', async () => {
    const engine = await anEngine(async ({ step }) => {
      for (let n = 0; engine.streams.batches.length < 3; n += 1) await step.run('more', () => n)
    })
    engine.streams.isOn = true
    const run = engine.start('fn')

    await engine.turn(run, { budgetMs: 60_000 })

    const [first] = engine.batches
    expect(engine.streams.batches).not.toContain(first)
    expect(engine.batches.slice(-3)).toEqual(engine.streams.batches)
    expect(engine.streams).toMatchObject({ asked: 1, opened: 1 })
    expect(engine.batches.map(batch => batch.reports[0]?.n)).toEqual(engine.batches.map((_, at) => at + 1))
    expect(run.ended).toEqual({})
  })

  test('carries all reports of further turns', async () => {
    const engine = await aStreamingEngine(THREE_STEPS)

    const runs = await Promise.all(Array.from({ length: 10 }, () => engine.drive(engine.start('fn'))))

    expect(runs.map(run => run.ended)).toEqual(runs.map(() => ({ output: 'abc' })))
    expect(engine.batches).toEqual(engine.streams.batches)
    expect(engine.streams.opened).toBe(1)
  })

  test('has two batches in flight, and the next takes what came meanwhile', async () => {
    const gate = aSignal()
    const engine = await aStreamingEngine(({ step }) => step.run('a', () => 1))
    engine.gate = gate.promise
    const driving = Array.from({ length: 50 }, () => engine.turn(engine.start('fn')))
    await vi.waitFor(() => expect(engine.batches).toHaveLength(2))

    gate.resolve()
    await Promise.all(driving)

    expect(engine.streams.batches.map(batch => batch.reports.length)).toEqual([1, 1, 48])
    expect(engine.streams.opened).toBe(1)
  })

  test('may answer in another order', async () => {
    const engine = await aStreamingEngine(({ event, step }) => step.run('a', () => event.data))
    engine.streams.troubles.push('late')

    const runs = await Promise.all([1, 2].map(data => engine.drive(engine.start('fn', { data }))))

    expect(runs.map(run => run.ended)).toEqual([{ output: 1 }, { output: 2 }])
    expect(engine.streams.batches.map(batch => batch.reports.length)).toEqual([1, 1])
  })

  test('takes what is larger than a packet', async () => {
    const large = 'ü'.repeat(300_000)
    const engine = await aStreamingEngine(({ step }) =>
      Promise.all(Array.from({ length: 6 }, (_, n) => step.run(`n-${n}`, () => large))),
    )

    const run = await engine.drive(engine.start('fn'))

    expect(run.types().filter(type => type === 'step_completed')).toHaveLength(6)
    expect(engine.streams.batches.length).toBeGreaterThan(0)
  })

  test('that was closed while nothing was under way is opened again', async () => {
    const engine = await aStreamingEngine(THREE_STEPS)
    engine.streams.close()

    const runs: unknown[] = []
    while (engine.streams.batches.length === 0) runs.push((await engine.drive(engine.start('fn'))).ended)

    expect(new Set(runs.map(ended => JSON.stringify(ended)))).toEqual(new Set(['{"output":"abc"}']))
    expect(engine.streams.opened).toBe(2)
  })

  test('does not keep the process alive', async () => {
    const engine = await anEngine(() => null)
    engine.streams.isOn = true
    engine.onReport = () => (engine.streams.batches.length > 0 ? { yield: true } : undefined)
    const once = fileURLToPath(new URL('answer-once.ts', import.meta.url))
    const cwd = fileURLToPath(new URL('..', import.meta.url))
    engine.deploy(async request => {
      const input = JSON.stringify({ headers: [...request.headers], body: await request.text() })
      // Resolves when the process has ended by itself.
      const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', once, input], { cwd })
      const { headers, body } = JSON.parse(stdout) as { headers: [string, string][]; body: string }
      return new Response(body, { headers })
    })

    const report = await engine.turn(engine.start('fn'), { budgetMs: 60_000 })

    expect(report.state).toBe('continue')
    expect(engine.streams.opened).toBe(1)
  })
})

describe('a report stream in trouble', () => {
  beforeEach(useMovedClock)
  afterEach(() => void vi.useRealTimers())

  /** With the turns that a run takes: two when the report goes into the response, as sending it again would not help. */
  const troubles: [string, number, FrameTrouble][] = [
    ['is not answered', 1, 'silence'],
    ['is recorded and not answered', 1, 'silence-after-commit'],
    ['meets a closed stream', 1, 'close'],
    ['is recorded, and then the stream is closed', 1, 'close-after-commit'],
    ['is answered with bytes that are no frame', 1, 'garbage'],
    ['is answered with something that is no JSON', 2, 'no-json'],
    ['is answered without a signature', 2, 'unsigned'],
    ['is answered under another key', 2, 'wrong-key'],
    ['is answered under the id of another', 1, 'other-id'],
    ['is found malformed', 2, { status: 422, code: 'body_invalid' }],
    ['is found too large', 2, { status: 413, code: 'body_too_large' }],
    ['meets an engine without a database', 1, { status: 503, code: 'unavailable' }],
  ]

  test.each(troubles)('records once when a batch %s: the run takes %i turns', async (_what, turns, trouble) => {
    const { bodies, handler } = countedSteps()
    const engine = await aStreamingEngine(handler)
    engine.streams.troubles.push(trouble)
    const run = engine.start('fn')

    await timed(engine.drive(run))

    expect(run.ended).toEqual({ output: 'abc' })
    expect(run.types()).toEqual(['run_started', 'step_completed', 'step_completed', 'step_completed'])
    expect(bodies).toEqual(['a', 'b', 'c'])
    expect(engine.turns).toHaveLength(turns)
    expect(engine.streams.troubles).toEqual([])
  })

  test.each(troubles)('records once when each batch %s', async (_what, _turns, trouble) => {
    const { bodies, handler } = countedSteps()
    const engine = await aStreamingEngine(handler)
    engine.streams.troubles.push(...Array.from({ length: 40 }, () => trouble))
    const runs = Array.from({ length: 4 }, () => engine.start('fn'))

    await timed(Promise.all(runs.map(run => engine.drive(run))))

    for (const run of runs) {
      expect(run.ended).toEqual({ output: 'abc' })
      expect(run.types()).toEqual(['run_started', 'step_completed', 'step_completed', 'step_completed'])
    }
    expect(bodies.sort().join('')).toBe('aaaabbbbcccc')
  })

  test('sends the same report again as a request, under its number', async () => {
    const engine = await aStreamingEngine(THREE_STEPS)
    engine.streams.troubles.push('close-after-commit')
    engine.streams.isOn = false

    await timed(engine.drive(engine.start('fn')))

    expect(engine.streams.batches).toHaveLength(1)
    expect(engine.batches.map(batch => batch.reports[0]?.n)).toEqual([1, 1, 2, 3])
    expect(engine.turns).toHaveLength(1)
  })

  test('sends reports apart when the engine refuses them as a whole', async () => {
    const gate = aSignal()
    const engine = await aStreamingEngine(({ step }) => step.run('a', () => 1))
    engine.gate = gate.promise
    const runs = Array.from({ length: 5 }, () => engine.start('fn'))
    engine.refusesBatch = batch => batch.reports.some(report => report.run === runs[2]?.id)
    const turns = runs.map(run => engine.turn(run))
    await until(() => engine.batches.length === 2)

    gate.resolve()
    const reports = await Promise.all(turns)

    expect(reports.map(report => report.state)).toEqual(['done', 'done', 'continue', 'done', 'done'])
    expect(engine.streams.batches.map(batch => batch.reports.length)).toEqual([1, 1, 3, 1, 1, 1])
  })

  test('is not trusted any more when it was idle for half a minute', async () => {
    const engine = await aStreamingEngine(THREE_STEPS)

    await vi.advanceTimersByTimeAsync(29_000)
    await engine.drive(engine.start('fn'))
    const afterLess = { batches: engine.batches.length, framed: engine.streams.batches.length }
    await vi.advanceTimersByTimeAsync(31_000)
    engine.batches.length = 0
    engine.streams.batches.length = 0
    await engine.drive(engine.start('fn'))

    expect(afterLess).toEqual({ batches: 3, framed: 3 })
    expect(engine.streams.batches).not.toContain(engine.batches[0])
    await until(() => engine.streams.opened === 2)
  })

  test('is not asked for again for a minute where it was refused', async () => {
    const engine = await anEngine(THREE_STEPS)
    await engine.drive(engine.start('fn'))
    await until(() => engine.streams.asked === 1)
    // The app has to have noticed.
    for (let turn = 0; turn < 3; turn += 1) await engine.drive(engine.start('fn'))

    await vi.advanceTimersByTimeAsync(59_000)
    await engine.drive(engine.start('fn'))
    const askedAfterLess = engine.streams.asked
    await vi.advanceTimersByTimeAsync(1_100)
    await engine.drive(engine.start('fn'))

    expect(askedAfterLess).toBe(1)
    await until(() => engine.streams.asked === 2)
  })
})
