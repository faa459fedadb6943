import type { Server } from './database.ts'
import { type Engines, startEngines } from './engines.ts'
import type { Growth } from './growth.ts'

/** Ten times the steps may cost eleven times the time. */
const LIMIT = 11
const SIZES = [1_000, 10_000]
const TIMES = 3

/** One run of many steps, one after another and side by side. */
export async function measureLongRuns(server: Server): Promise<Growth[]> {
  return server.withDatabase(async database => {
    const engines = await startEngines(database)
    try {
      return [
        await measureKind(engines, { name: 'one run of so many steps', prefix: 'steps' }),
        await measureKind(engines, { name: 'one run of so many parallel steps', prefix: 'parallel' }),
      ]
    } finally {
      await engines.stop()
    }
  })
}

async function measureKind(engines: Engines, kind: { name: string; prefix: string }): Promise<Growth> {
  const points: Growth['points'] = []
  for (const steps of SIZES) {
    const times: number[] = []
    for (let n = 0; n < TIMES; n += 1)
      times.push((await engines.runAll({ function: `${kind.prefix}-${steps}`, steps, runs: 1 })).ms)
    points.push({ at: steps.toLocaleString('en'), value: Math.min(...times) })
  }
  return { name: kind.name, unit: 'ms', points, limit: LIMIT }
}
