/*
 * Stepwell as a user runs it: `stepwell dev` with its embedded Postgres, in a temporary folder, and apps in processes of
 * their own. Everything is a real process, so that what each has cost can be told apart.
 *
 *     const stepwell = await startStepwell()
 *     const app = await stepwell.startApp('benchmarks/src/…/app.ts')   // serves, syncs, calls answerParent
 *     const before = cpuSecondsOf(stepwell.server)
 *     await app.ask({ run: 'W1' })
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectionTo } from 'stepwell/src/embedded/adopt.ts'
import { readIdentity } from 'stepwell/src/embedded/cluster.ts'
import type { Connection } from 'stepwell/src/embedded/connection.ts'
import { layoutOf } from 'stepwell/src/embedded/layout.ts'
import { readPostmasterFile } from 'stepwell/src/embedded/postmaster.ts'
import { type NodeChild, startNode, waitUntilUp } from '../processes/child.ts'
import { freePort } from '../processes/free-port.ts'
import type { ProcessGroup } from '../processes/usage.ts'

export interface Stepwell {
  url: string
  signingKey: string
  /** For postgres.js: `postgres({ ...connection })`. */
  connection: Connection
  /** The engine without its Postgres. */
  server: ProcessGroup
  database: ProcessGroup
  /**
   * Starts a file of this repository that serves functions. Its environment has PORT, the `STEPWELL_…` that
   * `StepwellClient` and `serve` read, and `env`. Resolves when it answers its first question, `{ do: 'prepare' }`.
   */
  startApp(file: string, env?: Record<string, string>): Promise<NodeChild>
  /** Stops everything, apps first, and deletes the folder. */
  stop(): Promise<void>
}

const READY_MS = 60_000

/** @param options.env more of the engine's environment, such as STEPWELL_CONCURRENCY */
export async function startStepwell(options: { env?: Record<string, string> } = {}): Promise<Stepwell> {
  const home = await mkdtemp(join(tmpdir(), 'stepwell-bench-'))
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const signingKey = `whsec_${randomBytes(32).toString('base64')}`
  const env = { STEPWELL_HOME: home, STEPWELL_SIGNING_KEY: signingKey }
  const engine = startNode({
    file: 'engine/src/main.ts',
    args: ['dev', '--port', String(port)],
    env: { ...env, ...options.env },
    folder: home,
  })
  const apps: NodeChild[] = []
  const check = async () => (await fetch(`${url}/readyz`)).ok
  try {
    await waitUntilUp(engine, { what: 'The engine', limitMs: READY_MS, check })
    const { connection, postmasterPid } = await findPostgres(join(home, 'pgdata'))
    return {
      url,
      signingKey,
      connection,
      server: { roots: [engine.pid], without: [postmasterPid] },
      database: { roots: [postmasterPid] },
      async startApp(file, more = {}) {
        const appPort = String(await freePort())
        const appUrl = `http://127.0.0.1:${appPort}`
        const app = startNode({
          file,
          env: { ...env, STEPWELL_URL: url, STEPWELL_APP_URL: appUrl, PORT: appPort, ...more },
        })
        apps.push(app)
        await app.ask({ do: 'prepare' })
        return app
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }

  async function stop(): Promise<void> {
    await Promise.all(apps.map(app => app.stop()))
    await engine.stop()
    await rm(home, { recursive: true, force: true })
  }
}

async function findPostgres(dataDir: string): Promise<{ connection: Connection; postmasterPid: number }> {
  const layout = layoutOf(dataDir)
  const identity = await readIdentity(layout)
  const file = identity && (await readPostmasterFile(layout, identity))
  if (!identity || !file?.process || !file.endpoint) throw new Error(`No Postgres runs on ${dataDir}.`)
  return { connection: connectionTo(file.endpoint, identity), postmasterPid: file.process.pid }
}
