import type { Server } from './database.ts'
import { type Ran, startEngines } from './engines.ts'
import type { Growth } from './growth.ts'

const COUNTS = [1, 2, 4]
const TIMES = 3

/** W3 on several engine processes. More of them help while cores are free; on two cores they only may not get in each other's way. */
export async function measureSeveralEngines(server: Server, runs: number): Promise<Growth[]> {
  const measured: { at: string; best: Ran }[] = []
  for (const count of COUNTS) {
    const best = await server.withDatabase(async database => {
      const engines = await startEngines(database, count)
      try {
        const all: Ran[] = []
        for (let n = 0; n < TIMES; n += 1) all.push(await engines.runAll({ function: 'steps-5', steps: 5, runs }))
        return all.reduce((best, ran) => (ran.stepsPerSecond > best.stepsPerSecond ? ran : best))
      } finally {
        await engines.stop()
      }
    })
    measured.push({ at: `${count} engine${count === 1 ? '' : 's'}`, best })
  }
  const growth = (name: string, unit: Growth['unit'], figure: (ran: Ran) => number): Growth => {
    const points = measured.map(({ at, best }) => ({ at, value: figure(best) }))
    return { name: `engine processes: ${name}`, unit, points, limit: null }
  }
  return [
    growth('W3', 'steps/s', ran => ran.stepsPerSecond),
    growth('W3, CPU of everything', 'CPU ms/1,000 steps', ran => ran.cpuMsPer1000Steps),
  ]
}
