import type { Server } from './database.ts'
import { startEngines } from './engines.ts'
import type { Growth } from './growth.ts'

const COUNTS = [1, 2, 4]
const TIMES = 3

/** W3 on several engine processes. More of them help while cores are free; on two cores they only may not get in each other's way. */
export async function measureSeveralEngines(server: Server, runs: number): Promise<Growth[]> {
  const points: Growth['points'] = []
  for (const count of COUNTS) {
    const value = await server.withDatabase(async database => {
      const engines = await startEngines(database, count)
      try {
        const rates: number[] = []
        for (let n = 0; n < TIMES; n += 1)
          rates.push((await engines.runAll({ function: 'steps-5', steps: 5, runs })).stepsPerSecond)
        return Math.max(...rates)
      } finally {
        await engines.stop()
      }
    })
    points.push({ at: `${count} engine${count === 1 ? '' : 's'}`, value })
  }
  return [{ name: 'engine processes: W3', unit: 'steps/s', points, limit: null }]
}
