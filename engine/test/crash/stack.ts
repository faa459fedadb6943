/*
 * A whole system of real processes on loopback: Postgres, a proxy that knows its commits, an engine (`stepwell start`)
 * and an app. Any of them can be killed and started again, at the same place.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  decodeId,
  HEADERS,
  type Json,
  newMessageId,
  PROTOCOL_VERSION,
  type SendEventsAnswer,
  signHeaders,
} from '@stepwell/protocol'
import { StepwellClient } from '@stepwell/sdk'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { open, type Sql } from '../../src/store/db.ts'
import { type PgProxy, startPgProxy } from '../support/pg-proxy.ts'
import { findFreePort, type RunningProcess, startProcess, waitForOk } from '../support/processes.ts'

export type Victim = 'engine' | 'app' | 'postgres'

/** Short, so that the runs of a killed engine are free soon. */
const LEASE = '1s'

export class Stack {
  readonly #folder: string
  readonly #signingKey = `whsec_${randomBytes(32).toString('base64')}`
  readonly #ports: { engine: number; app: number }
  postgres: EmbeddedPostgres
  proxy: PgProxy
  engine: RunningProcess
  app: RunningProcess
  client: StepwellClient
  #second: RunningProcess | null = null

  private constructor(parts: {
    folder: string
    ports: Stack['ports']
    postgres: EmbeddedPostgres
    proxy: PgProxy
  }) {
    this.#folder = parts.folder
    this.#ports = parts.ports
    this.postgres = parts.postgres
    this.proxy = parts.proxy
    this.engine = this.#spawnEngine()
    this.app = this.#spawnApp()
    this.client = new StepwellClient({ url: this.engineUrl, signingKey: this.#signingKey, workspace: 'default/prod' })
  }

  static async start(): Promise<Stack> {
    const folder = await mkdtemp(join(tmpdir(), 'stepwell-crash-'))
    const postgres = await startEmbeddedPostgres({ dataDir: join(folder, 'pgdata') })
    let stack: Stack | null = null
    const proxy = await startPgProxy(() => stack?.postgres.connection ?? postgres.connection)
    await writeFile(join(folder, 'ledger'), '')
    const ports = { engine: await findFreePort(), app: await findFreePort() }
    stack = new Stack({ folder, ports, postgres, proxy })
    await waitForOk(`${stack.engineUrl}/readyz`, stack.engine)
    await stack.waitForApp()
    await stack.sync()
    return stack
  }

  get ports() {
    return this.#ports
  }

  get engineUrl(): string {
    return `http://127.0.0.1:${this.#ports.engine}`
  }

  /** Registers the app, as it does by itself at its start when the engine is up. */
  async sync(): Promise<void> {
    const response = await this.client.sync([], { url: `http://127.0.0.1:${this.#ports.app}` })
    if (response.functions.length === 0) throw new Error('The app serves nothing.')
  }

  #spawnEngine(port = this.#ports.engine): RunningProcess {
    const { user, password, database } = this.postgres.connection
    return startProcess('src/main.ts', ['start'], {
      DATABASE_URL: `postgres://${user}:${encodeURIComponent(password)}@127.0.0.1:${this.proxy.port}/${database}`,
      STEPWELL_PORT: String(port),
      STEPWELL_HOST: '127.0.0.1',
      STEPWELL_SIGNING_KEY: this.#signingKey,
      STEPWELL_HOME: this.#folder,
      STEPWELL_LEASE: LEASE,
    })
  }

  #spawnApp(): RunningProcess {
    return startProcess('test/crash/app.ts', [], {
      PORT: String(this.#ports.app),
      LEDGER: join(this.#folder, 'ledger'),
      STEPWELL_URL: this.engineUrl,
      STEPWELL_APP_URL: `http://127.0.0.1:${this.#ports.app}`,
      STEPWELL_SIGNING_KEY: this.#signingKey,
      STEPWELL_WORKSPACE: 'default/prod',
    })
  }

  async waitForApp(): Promise<void> {
    await waitForOk(`http://127.0.0.1:${this.#ports.app}`, this.app)
  }

  async kill(victim: Victim): Promise<void> {
    if (victim === 'engine') return this.engine.kill()
    if (victim === 'app') return this.app.kill()
    const ended = this.postgres.died
    process.kill(this.postgres.postmasterPid, 'SIGKILL')
    await ended
  }

  /** Starts it again where it was. */
  async restart(victim: Victim): Promise<void> {
    if (victim === 'engine') {
      this.engine = this.#spawnEngine()
      await waitForOk(`${this.engineUrl}/livez`, this.engine)
    } else if (victim === 'app') {
      this.app = this.#spawnApp()
      await this.waitForApp()
    } else {
      // Gives up the folder's lock, which this process still holds.
      await this.postgres.stop()
      this.postgres = await startEmbeddedPostgres({ dataDir: this.postgres.dataDir })
    }
  }

  /** A second engine process on the same database, at a port of its own. */
  async startSecondEngine(): Promise<void> {
    const port = await findFreePort()
    this.#second = this.#spawnEngine(port)
    await waitForOk(`http://127.0.0.1:${port}/readyz`, this.#second)
  }

  /** One request, one answer: the runs that were started, or null when it was not acknowledged. */
  async sendOnce(event: { name: string; data: Json }): Promise<string[] | null> {
    const body = JSON.stringify(event)
    try {
      const response = await fetch(`${this.engineUrl}/v1/events`, {
        method: 'POST',
        body,
        headers: {
          'content-type': 'application/json',
          [HEADERS.version]: PROTOCOL_VERSION,
          [HEADERS.workspace]: 'default/prod',
          ...signHeaders({ id: newMessageId(), nowMs: Date.now(), payload: body, secrets: [this.#signingKey] }),
        },
      })
      if (response.status !== 202) return null
      return ((await response.json()) as SendEventsAnswer).events.flatMap(answer => answer.runs)
    } catch {
      return null
    }
  }

  /** How many of these runs are completed. */
  async countCompleted(runs: string[]): Promise<number> {
    const ids = runs.map(run => decodeId('run', run))
    const [row] = await this.look(
      sql => sql<{ count: number }[]>`
        select count(*)::int as count from stepwell.runs_done
        where state = 'completed' and id = any(${`{${ids.join(',')}}`}::uuid[])`,
    )
    return row?.count ?? 0
  }

  /** Looks into the database, past the proxy. */
  async look<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    const sql = open(this.postgres.connection, 1)
    try {
      return await work(sql)
    } finally {
      await sql.end({ timeout: 1 })
    }
  }

  /** The steps that were entered, by job, in order. */
  async ledger(): Promise<Map<string, string[]>> {
    const entered = new Map<string, string[]>()
    for (const line of (await readFile(join(this.#folder, 'ledger'), 'utf8')).split('\n')) {
      const [job, step] = line.split(' ')
      if (job === undefined || step === undefined) continue
      const steps = entered.get(job)
      if (steps === undefined) entered.set(job, [step])
      else steps.push(step)
    }
    return entered
  }

  async stop(): Promise<void> {
    await Promise.all([this.engine.kill(), this.app.kill(), this.#second?.kill()])
    await this.proxy.close()
    await this.postgres.stop()
    await rm(this.#folder, { recursive: true, force: true })
  }
}
