/*
 * Somebody's report, a backup or a forgotten psql holds a snapshot open for long: no row that is deleted meanwhile can be
 * cleared away. Queue rows are deleted by the thousand, and the claim must not walk over all that were.
 */
import { open } from 'stepwell/src/store/db.ts'
import type { Database, Server } from './database.ts'
import { type Engines, startEngines } from './engines.ts'
import { FLAT, type Growth } from './growth.ts'
import { probeClaims } from './probes.ts'

const ROUNDS = 8

/** W3 again and again under one snapshot, and the claim after that. */
export async function measureOpenSnapshot(server: Server, runs: number): Promise<Growth[]> {
  return server.withDatabase(async database => {
    const before = { claims: await probeClaims(database), rates: [] as number[] }
    const snapshot = open(database.connection, 1)
    try {
      await withEngines(database, async engines => {
        const w3 = async () => (await engines.runAll({ function: 'steps-5', steps: 5, runs })).stepsPerSecond
        for (let n = 0; n < 3; n += 1) before.rates.push(await w3())
        await snapshot`set idle_in_transaction_session_timeout = 0`
        await snapshot`begin isolation level repeatable read`
        await snapshot`select from stepwell.queue limit 1`
        for (let n = 0; n < ROUNDS; n += 1) before.rates.push(await w3())
      })
      const after = await probeClaims(database)
      const [closed, under] = [before.rates.slice(0, 3), before.rates.slice(3)]
      const points = [
        { at: 'closed', value: Math.max(...closed) },
        ...under.map((value, n) => ({ at: `after ${((n + 1) * runs).toLocaleString('en')}`, value })),
      ]
      return [
        { name: 'open snapshot: W3 after so many runs', unit: 'steps/s', points, limit: FLAT },
        claimGrowth('claim of 1', before.claims.ofOne, after.ofOne),
        claimGrowth('claim of 100', before.claims.ofHundred, after.ofHundred),
      ]
    } finally {
      await snapshot.end({ timeout: 0 })
    }
  })
}

function claimGrowth(name: string, closed: number, opened: number): Growth {
  const points = [
    { at: 'closed', value: closed },
    { at: 'open', value: opened },
  ]
  return { name: `open snapshot: ${name}`, unit: 'ms', points, limit: FLAT }
}

async function withEngines(database: Database, work: (engines: Engines) => Promise<void>): Promise<void> {
  const engines = await startEngines(database)
  try {
    await work(engines)
  } finally {
    await engines.stop()
  }
}
