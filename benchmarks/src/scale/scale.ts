/*
 * Does it stay as fast when there is much of everything? Claims and W3 (2,000 runs of 5 no-op steps at once) beside a
 * million other runs, long runs, a long-open snapshot, several engines. Prints by what factor each figure gets worse from
 * the first size to the worst; flat is at most 1.5. fsync is on, and everything is on this machine.
 */
import { parseArgs } from 'node:util'
import { type Server, startServer } from './database.ts'
import { type Growth, printGrowth, saveGrowths } from './growth.ts'
import { measureLongRuns } from './long-runs.ts'
import { measureOpenSnapshot } from './open-snapshot.ts'
import { CURVES, measureCurve, type Sizes } from './others.ts'
import { measureSeveralEngines } from './several-engines.ts'

const FULL: Sizes = { others: [0, 100_000, 1_000_000], runs: 2_000 }
const QUICK: Sizes = { others: [0, 100_000], runs: 500 }

type Question = (server: Server, sizes: Sizes) => Promise<Growth[]>

const QUESTIONS: Record<string, Question> = {
  ...Object.fromEntries(
    Object.entries(CURVES).map(([name, curve]): [string, Question] => [
      name,
      (server, sizes) => measureCurve(server, curve, sizes),
    ]),
  ),
  long: server => measureLongRuns(server),
  snapshot: (server, { runs }) => measureOpenSnapshot(server, runs),
  engines: (server, { runs }) => measureSeveralEngines(server, runs),
}

const USAGE = `bench scale [--quick] [--only ${Object.keys(QUESTIONS).join(',')}]`

/** The command `bench scale`. */
export async function runScale(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { quick: { type: 'boolean' }, only: { type: 'string' } } })
  const names = values.only?.split(',') ?? Object.keys(QUESTIONS)
  const unknown = names.filter(name => QUESTIONS[name] === undefined)
  if (unknown.length > 0) throw new Error(`There is no ${unknown.join(', ')}. Use: ${USAGE}`)

  const growths: Growth[] = []
  const server = await startServer()
  try {
    for (const name of names) {
      const measured = (await QUESTIONS[name]?.(server, values.quick === true ? QUICK : FULL)) ?? []
      for (const growth of measured) printGrowth(growth)
      growths.push(...measured)
    }
  } finally {
    await server.stop()
  }
  saveGrowths(growths)
}
