/*
 * What a run costs beside many others that do nothing: queued, sleeping, waiting for events, finished. One curve each;
 * another one is one more entry of CURVES.
 */
import type { WorkspaceId } from 'stepwell/src/core/ids.ts'
import type { Database, Server } from './database.ts'
import { type Engines, type Ran, startEngines } from './engines.ts'
import { FLAT, type Growth } from './growth.ts'
import { probeClaims, probeClaimsOfQueued, probeWakes, RUNS_CLAIMED } from './probes.ts'
import { type Seeds, seedFinished, seedQueued, seedSleeping, seedWaiting } from './seed.ts'

export interface Sizes {
  /** How many others there are, the smallest first. */
  others: number[]
  /** Runs of 5 steps that are measured beside them. */
  runs: number
}

/** What was measured with so many others. */
interface Point {
  others: number
  /** Name -> figure; the unit is in UNITS. */
  figures: Record<string, number>
}

interface Curve {
  name: string
  /** There are always some: the first points are not beside nothing but beside so many. */
  atLeast: number
  seed(seeds: Seeds): Promise<void>
  measure(database: Database, given: { others: number; runs: number }): Promise<Record<string, number>>
}

const CLAIM_ONE = 'claim of 1'
const CLAIM_HUNDRED = 'claim of 100'
const W3 = 'W3'
const W3_CPU = 'W3, CPU of everything'
const BACKLOG = 'working off a backlog of runs of 5 steps'
const BESIDE = 'W3 beside a workspace with so many queued and no app'
const WAKE = 'an event that wakes 1 of them'
const UNITS: Record<string, Growth['unit']> = {
  [CLAIM_ONE]: 'ms',
  [CLAIM_HUNDRED]: 'ms',
  [WAKE]: 'ms',
  [W3]: 'steps/s',
  [BACKLOG]: 'steps/s',
  [BESIDE]: 'steps/s',
  [W3_CPU]: 'CPU ms/1,000 steps',
}
/** The engine works on the other workspace's runs too, in turn, so this one is not about its size alone. */
const NOT_JUDGED = [BESIDE]
const FUNCTION = 'steps-5'
const STEPS = 5
const W3_TIMES = 3
/** Other workspaces than the one that is measured. */
const WITHOUT_APP = 1_000 as WorkspaceId

export const CURVES: Record<string, Curve> = {
  // First in, first out: what is queued in the same workspace is worked off first. So here the others are the work.
  queued: {
    name: 'queued',
    atLeast: 2 * RUNS_CLAIMED,
    seed: seeds => seedQueued(seeds, FUNCTION),
    measure: async (database, { runs }) => {
      const claims = await probeClaimsOfQueued(database)
      return { [CLAIM_ONE]: claims.ofOne, [CLAIM_HUNDRED]: claims.ofHundred, ...(await workOff(database, runs)) }
    },
  },
  elsewhere: {
    name: 'queued in another workspace',
    atLeast: 0,
    seed: async seeds => {
      const { sql } = seeds
      await sql`insert into stepwell.workspaces (ws, name) values (${WITHOUT_APP}, 'bench/without-app') on conflict do nothing`
      await seedQueued({ ...seeds, ws: WITHOUT_APP }, FUNCTION)
    },
    measure: async (database, { runs }) => {
      const ran = await runW3(database, runs)
      return { [BESIDE]: ran.stepsPerSecond }
    },
  },
  sleeping: { name: 'sleeping', atLeast: 0, seed: seedSleeping, measure: claimsAndW3 },
  waiting: {
    name: 'waiting for events',
    atLeast: 1_000,
    seed: seedWaiting,
    measure: async (database, given) => ({
      [WAKE]: await probeWakes(database, given.others),
      ...(await claimsAndW3(database, given)),
    }),
  },
  finished: { name: 'finished', atLeast: 0, seed: seedFinished, measure: claimsAndW3 },
}

/** One curve from the smallest size to the largest, each size in a database of its own. */
export async function measureCurve(server: Server, curve: Curve, sizes: Sizes): Promise<Growth[]> {
  const points: Point[] = []
  for (const wanted of sizes.others) {
    const others = Math.max(wanted, curve.atLeast)
    const figures = await server.withDatabase(async database => {
      await curve.seed({ sql: database.sql, ws: database.ws, from: 0, count: others })
      const measured = await curve.measure(database, { others, runs: sizes.runs })
      await checkInvariants(database)
      return measured
    })
    points.push({ others, figures })
  }
  return Object.keys(points[0]?.figures ?? {}).map(figure => ({
    name: `${curve.name}: ${figure}`,
    unit: UNITS[figure] ?? 'ms',
    points: points.map(({ others, figures }) => ({ at: others.toLocaleString('en'), value: figures[figure] ?? NaN })),
    limit: NOT_JUDGED.includes(figure) ? null : FLAT,
  }))
}

async function claimsAndW3(database: Database, { runs }: { runs: number }): Promise<Record<string, number>> {
  const claims = await probeClaims(database)
  const ran = await runW3(database, runs)
  return {
    [CLAIM_ONE]: claims.ofOne,
    [CLAIM_HUNDRED]: claims.ofHundred,
    [W3]: ran.stepsPerSecond,
    [W3_CPU]: ran.cpuMsPer1000Steps,
  }
}

/** The fastest of some after one to warm up: what disturbs a measurement makes it slower, never faster. */
async function runW3(database: Database, runs: number): Promise<Ran> {
  return withEngines(database, async engines => {
    const all: Ran[] = []
    await engines.runAll({ function: FUNCTION, steps: STEPS, runs })
    for (let n = 0; n < W3_TIMES; n += 1) all.push(await engines.runAll({ function: FUNCTION, steps: STEPS, runs }))
    return all.reduce((best, ran) => (ran.stepsPerSecond > best.stepsPerSecond ? ran : best))
  })
}

/** How fast the engine works once it is warm; `runs` are measured and as many before them are not. */
async function workOff(database: Database, runs: number): Promise<Record<string, number>> {
  return withEngines(database, async engines => {
    await engines.ask({ do: 'wait', ended: runs })
    const startedAt = performance.now()
    await engines.ask({ do: 'wait', ended: runs * 2 })
    return { [BACKLOG]: ((runs * STEPS) / (performance.now() - startedAt)) * 1_000 }
  })
}

async function withEngines<T>(database: Database, work: (engines: Engines) => Promise<T>): Promise<T> {
  const engines = await startEngines(database)
  try {
    return await work(engines)
  } finally {
    await engines.stop()
  }
}

/** What was seeded is what engines could have left, and what they made of it is sound. */
async function checkInvariants({ sql }: Database): Promise<void> {
  const broken = await sql`select * from stepwell.check_invariants() limit 3`
  if (broken.length > 0) throw new Error(`An invariant does not hold: ${JSON.stringify(broken)}`)
}
