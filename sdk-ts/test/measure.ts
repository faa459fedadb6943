/**
 * Prints what the SDK costs: `pnpm exec tsx sdk-ts/test/measure.ts`. Not a test: machines differ, and tests that measure
 * time fail on busy ones.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Entry, Turn } from '@stepwell/protocol'
import { createFunction, serve, type UntypedEvents } from '../src/index.ts'
import { Patience } from '../src/patience.ts'
import { Scopes } from '../src/scopes.ts'
import { BodyPlaces } from '../src/step-body.ts'
import { executeTurn } from '../src/turn.ts'
import { EngineDouble, KEY } from './engine-double.ts'

const STEPS = 10_000
const at = '2026-01-01T00:00:00.000Z'
const started: Entry = { seq: 1, turn: 1, at, type: 'run_started', data: { id: 'e', name: 'n', data: {}, ts: at } }

function aTurn(journal: Entry[]): Turn {
  return {
    kind: 'turn',
    workspace: 'a/dev',
    function: 'fn',
    run: { id: 'run_1', generation: 1 },
    turn: 1,
    epoch: 'e1',
    budgetMs: 60_000,
    reportUrl: 'http://127.0.0.1:1/',
    journal,
  }
}

async function measure(name: string, count: number, work: () => Promise<unknown>): Promise<void> {
  for (let round = 0; round < 4; round += 1) {
    const cpu = process.cpuUsage()
    const startMs = performance.now()
    await work()
    const wallMs = performance.now() - startMs
    const used = process.cpuUsage(cpu)
    const cpuUs = (used.user + used.system) / count
    if (round === 3) console.log(`${name}: ${wallMs.toFixed(1)} ms, ${cpuUs.toFixed(1)} us CPU each`)
  }
}

function replay(handler: Parameters<typeof createFunction<UntypedEvents>>[0]['handler'], journal: Entry[]) {
  const definition = createFunction({ id: 'fn', trigger: { event: 'n' }, handler })
  const deliver = () => Promise.resolve({ kind: 'undelivered', message: '' } as const)
  return executeTurn({
    turn: aTurn(journal),
    definition,
    deliver,
    places: new BodyPlaces(100),
    scopes: new Scopes(),
    patience: new Patience(),
  })
}

const sequential: Entry[] = [started]
for (let at_ = 0; at_ < STEPS; at_ += 1) {
  sequential.push({ seq: at_ + 2, turn: 1, at, type: 'step_completed', key: `s${at_}`, saw: at_ + 1, data: { n: at_ } })
}
const parallel = sequential.map(entry => ('saw' in entry ? { ...entry, saw: 1 } : entry))

await measure(`replay of ${STEPS} sequential steps`, STEPS, () =>
  replay(async ({ step }) => {
    for (let n = 0; n < STEPS; n += 1) await step.run(`s${n}`, () => n)
  }, sequential),
)
await measure(`replay of ${STEPS} parallel steps`, STEPS, () =>
  replay(({ step }) => Promise.all(Array.from({ length: STEPS }, (_, n) => step.run(`s${n}`, () => n))), parallel),
)

/** A bare engine: answers reports at once, so that what is left is HTTP and the SDK. */
const live = createFunction({
  id: 'fn',
  trigger: { event: 'n' },
  handler: async ({ step, event }) => {
    const { count, width } = event.data as { count: number; width: number }
    for (let n = 0; n < count; n += 1) {
      if (width === 1) await step.run('s', () => n)
      else await Promise.all(Array.from({ length: width }, (_, w) => step.run(`s${w}`, () => n)))
    }
  },
})
const endpoint = serve([live], { signingKey: KEY })
const engine = await new EngineDouble(endpoint).open()
await measure('1,000 sequential live steps over loopback (engine double included)', 1_000, () =>
  engine.turn(engine.start('fn', { data: { count: 1_000, width: 1 } }), { budgetMs: 60_000 }),
)
await measure('500 parallel live steps over loopback (engine double included)', 500, () =>
  engine.turn(engine.start('fn', { data: { count: 1, width: 500 } }), { budgetMs: 60_000 }),
)
await measure('200 runs of 5 live steps at once (engine double included)', 1_000, () =>
  Promise.all(
    Array.from({ length: 200 }, () =>
      engine.turn(engine.start('fn', { data: { count: 5, width: 1 } }), { budgetMs: 60_000 }),
    ),
  ),
)
await engine.close()

const storage = new AsyncLocalStorage()
const body = async () => {
  await null
  return 1
}
await measure('100,000 bodies in AsyncLocalStorage.run', 100_000, async () => {
  for (let n = 0; n < 100_000; n += 1) await storage.run({}, body)
})
await measure('100,000 bare bodies (promise hooks are on now)', 100_000, async () => {
  for (let n = 0; n < 100_000; n += 1) await body()
})
storage.disable()
