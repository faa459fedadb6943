/*
 * Random programs of all ops, in an unreliable world, against a simple model of what the engine promises. Seeds are fixed in
 * CI; `npx pnpm test:soak` goes on with new ones for as long as STEPWELL_SOAK_MINUTES says. A seed that fails is printed, and
 * STEPWELL_MODEL_SEED=<seed> plays it again.
 */
import { setTimeout as pause } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { waitUntil } from '../support/wait-until.ts'
import { type Expected, expectedOf, signalData } from './model.ts'
import { type Program, program } from './program.ts'
import { World } from './world.ts'

const SEEDS = [1, 2, 3, 4, 5, 6]
const PROGRAMS = 8
const STIRS = 12
const STIR_MS = 60
/** Of a hundred runs. */
const CANCELLED = 15
const END_MS = 60_000

interface Lived {
  label: string
  whole: Program
  expected: Expected
  run: string
  isCancelled: boolean
}

const { STEPWELL_MODEL_SEED, STEPWELL_SOAK_MINUTES } = process.env
const soakMs = Number(STEPWELL_SOAK_MINUTES ?? 0) * 60_000
const seeds = STEPWELL_MODEL_SEED === undefined ? SEEDS : [Number(STEPWELL_MODEL_SEED)]

test.each(seeds)('programs end as the model says, whatever happens (seed %i)', seed => tryOut(seed), 180_000)

test.runIf(soakMs > 0)(
  'soak',
  async () => {
    for (const untilMs = performance.now() + soakMs; performance.now() < untilMs; ) {
      const seed = Math.floor(Math.random() * 2 ** 31)
      console.log(`seed ${seed}`)
      await tryOut(seed)
    }
  },
  soakMs + 240_000,
)

async function tryOut(seed: number): Promise<void> {
  const dice = diceOf(seed)
  const world = await World.open(dice)
  try {
    const programs = fc.sample(program, { seed, numRuns: PROGRAMS })
    world.isCalm = false
    const living = Promise.all(programs.map((whole, n) => live(world, `p${seed}x${n}`, whole, dice)))
    for (let n = 0; n < STIRS; n += 1) {
      await pause(STIR_MS)
      await world.stir()
    }
    world.isCalm = true
    const lived = await living
    for (const one of lived) await expectRight(world, one)
    await waitUntil('all runs have ended', async () => {
      const [row] = await world.sql<{ live: number }[]>`select count(*)::int as live from stepwell.runs`
      return row?.live === 0
    })
    for (const one of lived) await expectFamily(world, one)
    expect(await world.brokenInvariants()).toEqual([])
  } catch (error) {
    throw new Error(`Seed ${seed}: STEPWELL_MODEL_SEED=${seed} plays it again. ${String(error)}`, { cause: error })
  } finally {
    await world.close()
  }
}

/** Starts a run, and sends it what it will receive: in order, at any time. */
async function live(world: World, label: string, whole: Program, dice: () => number): Promise<Lived> {
  const expected = expectedOf(label, whole)
  const start = { name: 'model.start', data: { label, program: whole } as never, id: `start-${label}` }
  const [sent] = await insist(() => world.client().send(start))
  const run = sent?.runs[0] as string
  const tellings = [...expected.signals].map(async ([name, count]) => {
    for (let n = 0; n < count; n += 1) {
      await pause(dice() * 40)
      await signalOnce(world, run, name, n)
    }
  })
  const sendings = expected.events.map(async id => {
    await pause(dice() * 80)
    const event = { name: `model.${label}.${id}`, data: { n: `event ${id}` }, id: `${label}-${id}` }
    await insist(() => world.client().send(event))
  })
  const isCancelled = dice() * 100 < CANCELLED
  if (isCancelled) {
    await pause(dice() * 200)
    await insistUnlessEnded(() => world.client().cancel(run))
  }
  await Promise.all([...tellings, ...sendings])
  return { label, whole, expected, run, isCancelled }
}

/** The same message until it is acknowledged: under its own id it is one. */
async function signalOnce(world: World, run: string, name: string, n: number): Promise<void> {
  const data = signalData(name, n)
  await insistUnlessEnded(() => world.client().signal(run, name, data, { id: `${run}-${data}` }))
}

async function insist<T>(ask: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask()
    } catch (error) {
      if (attempt === 50) throw error
      await pause(20)
    }
  }
}

async function insistUnlessEnded(ask: () => Promise<unknown>): Promise<void> {
  await insist(() =>
    ask().catch(error => {
      if ((error as { code?: string }).code !== 'run_ended') throw error
    }),
  )
}

async function expectRight(world: World, { expected, run, isCancelled, label, whole }: Lived): Promise<void> {
  const view = await insist(() => world.client().waitForRun(run, { timeout: END_MS }))
  const journal = await insist(() => world.client().getJournal(run))
  const completed = journal.flatMap(entry => (entry.type === 'step_completed' ? [entry.key] : []))
  const undone = completed.filter(key => key.startsWith('undo:')).map(key => key.slice('undo:'.length))
  if (view.state === 'cancelled') {
    expect(isCancelled, `${label} was cancelled by nobody`).toBe(true)
    const undoable = undoableOf(whole)
    const toUndo = completed.filter(key => undoable.has(key))
    expect(undone, `${label} undoes what it has done, the last first`).toEqual([...toUndo].reverse())
    return
  }
  expect(view, label).toMatchObject({
    state: expected.state,
    generation: expected.generation,
    status: expected.status,
    output: expected.state === 'completed' ? expected.output : null,
  })
  expect(view.error?.message ?? null, label).toBe(expected.message)
  expect([...undone].sort(), label).toEqual(expected.state === 'failed' ? [...expected.undone].sort() : [])
  expect(undone, `${label} undoes the last first`).toEqual(completed.filter(key => undone.includes(key)).reverse())
}

/** The ids of all steps, of whatever generation, that want to be undone. */
function undoableOf(whole: Program): Set<string> {
  const ids = [
    ...JSON.stringify(whole).matchAll(/"kind":"step","id":"([^"]+)","fails":\d+,"isFatal":(?:true|false),"undo":true/g),
  ]
  return new Set(ids.map(([, id]) => id ?? ''))
}

/** Every child that was started is there once, and ended as it should; steps that the ledger has were recorded. */
async function expectFamily(world: World, { label, expected, isCancelled, run }: Lived): Promise<void> {
  const rows = await world.sql<{ label: string; state: string; count: number }[]>`
    select t.value as label, min(d.state) as state, count(*)::int as count
    from stepwell.run_tags t
    join stepwell.runs_done d on d.ws = t.ws and d.id = t.run_id
    where t.name = 'label' and (t.value = ${label} or t.value like ${`${label}/%`})
    group by t.value`
  for (const row of rows) expect(row.count, `${row.label} is one run`).toBe(1)
  if (isCancelled) return
  const published = await world.sql<{ seq: string; text: string }[]>`
    select seq, data::json #>> '{}' as text from stepwell.published where run_id = ${world.uuidOf(run)} order by seq`
  expect(
    published.map(({ seq }) => Number(seq)),
    `${label} numbers what it publishes`,
  ).toEqual(published.map((_, n) => n + 1))
  expect(published.map(({ text }) => text).sort(), `${label} publishes once`).toEqual([...expected.published].sort())
  const states = new Map(rows.map(row => [row.label, row.state]))
  expect(states, label).toEqual(expected.family)
}

/** Numbers from a seed: mulberry32. */
function diceOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
