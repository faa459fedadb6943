import fc from 'fast-check'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { EngineDouble, type Trouble } from './engine-double.ts'
import type { EngineRun } from './engine-run.ts'
import { anApp } from './harness.ts'
import { type Program, toHandler } from './programs.ts'
import { randomPrograms } from './random-programs.ts'
import type { FrameTrouble } from './stream-double.ts'

/** Made once: it is asked for hundreds of runs. */
let engine: EngineDouble
let isOver = false
beforeAll(async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  void runClock()
  engine = await new EngineDouble(anApp(() => null)).open()
  engine.streams.isOn = true
})
afterAll(async () => {
  isOver = true
  vi.useRealTimers()
  await engine.close()
})

/** Time passes with the event loop, which both sides run in: pauses cost nothing, and no answer comes too late. */
async function runClock(): Promise<void> {
  while (!isOver) {
    await new Promise(resolve => setImmediate(resolve))
    if (!isOver) await vi.advanceTimersByTimeAsync(10)
  }
}

interface Troubled {
  troubles: Trouble[]
  frameTroubles: FrameTrouble[]
  budgetMs: number
  yieldEvery: number
}

async function drive(statements: Program, trouble?: Troubled) {
  engine.deploy(anApp(toHandler(statements)))
  engine.troubles.splice(0, Number.POSITIVE_INFINITY, ...(trouble?.troubles ?? []))
  engine.streams.troubles.splice(0, Number.POSITIVE_INFINITY, ...(trouble?.frameTroubles ?? []))
  let reports = 0
  engine.onReport = () => {
    reports += 1
    return trouble !== undefined && reports % trouble.yieldEvery === 0 ? { yield: true } : undefined
  }
  return engine.drive(engine.start('fn'), { budgetMs: trouble?.budgetMs ?? 10_000 })
}

/** What was recorded, by key: an entry that settles, its value, and how many attempts failed before. */
function recorded(run: EngineRun): Record<string, unknown[]> {
  const byKey: Record<string, unknown[]> = {}
  for (const entry of run.journal) {
    if (!('key' in entry)) continue
    byKey[entry.key] ??= []
    byKey[entry.key]?.push([entry.type, entry.type === 'step_completed' ? entry.data : null])
  }
  return byKey
}

/** A handler that fails live and one that fails in a replay are called from different lines of the SDK. */
function withoutStack(ended: unknown): unknown {
  return JSON.parse(JSON.stringify(ended ?? null), (name, value) => (name === 'stack' ? undefined : value))
}

test('whatever happens to reports and turns, a run records the same and ends the same', async () => {
  const troubles = fc.array(
    fc.constantFrom<Trouble>('not-holder', 'drop-after-commit', 'status-500', 'drop', 'garbage'),
    { maxLength: 12 },
  )
  const frameTroubles = fc.array(
    fc.constantFrom<FrameTrouble>(
      'silence',
      'silence-after-commit',
      'close',
      'close-after-commit',
      'garbage',
      'wrong-key',
      'other-id',
      { status: 503, code: 'unavailable' },
    ),
    { maxLength: 6 },
  )

  await fc.assert(
    fc.asyncProperty(
      randomPrograms('timeless'),
      fc.record({
        troubles,
        frameTroubles,
        budgetMs: fc.constantFrom(0, 10_000),
        yieldEvery: fc.integer({ min: 1, max: 5 }),
      }),
      async (statements, trouble) => {
        const calm = await drive(statements)
        const troubled = await drive(statements, trouble)

        expect(withoutStack(troubled.ended)).toEqual(withoutStack(calm.ended))
        expect(recorded(troubled)).toEqual(recorded(calm))
        expect([troubled.status, troubled.tags]).toEqual([calm.status, calm.tags])
      },
    ),
    { numRuns: 40 },
  )
  expect(engine.streams.batches.length).toBeGreaterThan(0)
})
