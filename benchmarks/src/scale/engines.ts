import { type NodeChild, startNode, waitUntilUp } from '../processes/child.ts'
import { freePort } from '../processes/free-port.ts'
import { cpuSecondsOf } from '../processes/usage.ts'
import type { Question } from './app.ts'
import { type Database, WORKSPACE } from './database.ts'

/** Engines as in production, `stepwell start`, and one app that talks to the first of them. */
export interface Engines {
  ask(question: Question): Promise<void>
  /** Starts runs of `steps-5` or the like, until the last is finished in the database. */
  runAll(given: { function: string; steps: number; runs: number }): Promise<Ran>
  stop(): Promise<void>
}

export interface Ran {
  ms: number
  stepsPerSecond: number
  /** Of everything: engines, app and Postgres. */
  cpuMsPer1000Steps: number
}

const READY_MS = 120_000
const POLL_MS = 5

export async function startEngines(database: Database, count = 1): Promise<Engines> {
  const engines: NodeChild[] = []
  const apps: NodeChild[] = []
  const stop = async () => {
    await Promise.all(engines.map(engine => engine.stop()))
    await Promise.all(apps.map(app => app.stop()))
  }
  try {
    const urls: string[] = []
    for (let n = 0; n < count; n += 1) urls.push(await startEngine(database, engines))
    const app = await startApp(database, urls[0] ?? '')
    apps.push(app)
    await app.ask<void>({ do: 'prepare' } satisfies Question)
    const ask = (question: Question) =>
      app.ask<void>(question).catch(cause => {
        throw new Error(`The app failed; the engines say:\n${engines.map(engine => engine.output()).join('\n')}`, {
          cause,
        })
      })
    const cpu = () => cpuSecondsOf({ roots: [...[...engines, app].map(({ pid }) => pid), database.postmasterPid] })
    return {
      ask,
      stop,
      async runAll(given) {
        const [cpuBefore, startedAt] = [cpu(), performance.now()]
        await ask({ do: 'run', event: `bench.${given.function}`, count: given.runs })
        while (await isLive(database, given.function)) await new Promise(resolve => setTimeout(resolve, POLL_MS))
        const ms = performance.now() - startedAt
        const steps = given.runs * given.steps
        return { ms, stepsPerSecond: (steps / ms) * 1_000, cpuMsPer1000Steps: ((cpu() - cpuBefore) / steps) * 1e6 }
      },
    }
  } catch (error) {
    await stop()
    throw error
  }
}

async function startEngine(database: Database, engines: NodeChild[]): Promise<string> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const engine = startNode({
    file: 'engine/src/main.ts',
    args: ['start', '--host', '127.0.0.1', '--port', String(port)],
    env: {
      STEPWELL_DATABASE_URL: database.url,
      STEPWELL_SIGNING_KEY: database.signingKey,
      STEPWELL_WORKSPACE: WORKSPACE,
      STEPWELL_SELF_URL: url,
      STEPWELL_LOG_LEVEL: 'warn',
    },
  })
  engines.push(engine)
  const check = async () => (await fetch(`${url}/readyz`)).ok
  await waitUntilUp(engine, { what: 'An engine', limitMs: READY_MS, check })
  return url
}

async function startApp(database: Database, engineUrl: string): Promise<NodeChild> {
  const port = String(await freePort())
  return startNode({
    file: 'benchmarks/src/scale/app.ts',
    env: {
      PORT: port,
      STEPWELL_URL: engineUrl,
      STEPWELL_SIGNING_KEY: database.signingKey,
      STEPWELL_WORKSPACE: WORKSPACE,
      STEPWELL_APP_URL: `http://127.0.0.1:${port}`,
    },
  })
}

/** A handler has ended before its end is written. Served by runs_by_function, however many other runs there are. */
async function isLive({ sql, ws }: Database, name: string): Promise<boolean> {
  const rows = await sql`select from stepwell.runs where ws = ${ws} and function = ${name} limit 1`
  return rows.length > 0
}
