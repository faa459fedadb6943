/*
 * The world of the model: two engines on one database, one app, and everything between them unreliable for as long as
 * `isCalm` is false: requests that get lost before or after they were answered, are sent twice, come late and out of order;
 * connections to the database that are cut; engines that stop at once and start anew.
 */
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import { getRequestListener } from '@hono/node-server'
import { decodeId } from '@stepwell/protocol'
import { StepwellClient, serve } from '@stepwell/sdk'
import { createEngine, type Engine } from '../../src/engine.ts'
import { createHttp } from '../../src/http/app.ts'
import { createLog } from '../../src/log.ts'
import { open, type Sql } from '../../src/store/db.ts'
import { ensureWorkspace } from '../../src/store/workspaces.ts'
import { createTestDatabase, type TestDatabase } from '../database.ts'
import { type ListeningServer, listen, readBody } from '../support/app-server.ts'
import { type Ledger, programFunction } from './program.ts'

const ENGINES = 2
/** Of a hundred requests. */
const TROUBLES = 8
const LATE_MS = 30

interface Process {
  engine: Engine
  front: ListeningServer
}

export class World {
  readonly ledger: Ledger = []
  readonly #dice: () => number
  readonly #signingKey = `whsec_${randomBytes(32).toString('base64')}`
  #database: TestDatabase
  #processes: Process[] = []
  #app: ListeningServer | null = null
  sql: Sql
  isCalm = true

  private constructor(database: TestDatabase, dice: () => number) {
    this.#database = database
    this.#dice = dice
    this.sql = open(database.connection, 2)
  }

  /** @param dice decides what goes wrong */
  static async open(dice: () => number): Promise<World> {
    const world = new World(await createTestDatabase(), dice)
    await ensureWorkspace(world.sql, 'model/test', world.#signingKey)
    for (let n = 0; n < ENGINES; n += 1) world.#processes.push(await world.#startEngine())
    const functions = [programFunction(world.ledger)]
    const handle = serve(functions, { signingKey: world.#signingKey })
    world.#app = await listen((request, response) => world.#pass(request, response, handle))
    await world.client().sync(functions, { url: world.#app.url })
    return world
  }

  /** Asks one of the engines. */
  client(): StepwellClient {
    const { front } = this.#processes[Math.floor(this.#dice() * this.#processes.length)] as Process
    return new StepwellClient({ url: front.url, signingKey: this.#signingKey, workspace: 'model/test' })
  }

  async #startEngine(): Promise<Process> {
    const log = createLog('silent')
    let listener: ReturnType<typeof getRequestListener> | null = null
    const front = await listen((request, response) =>
      this.#pass(request, response, async (one, two) => listener?.(one, two)),
    )
    const engine = createEngine({
      connection: this.#database.connection,
      log,
      selfUrl: front.url,
      leaseMs: 600,
      turnTimeoutMs: 1_500,
    })
    listener = getRequestListener(createHttp({ engine, mode: 'start', log }).fetch)
    await engine.start()
    return { engine, front }
  }

  /** Hands a request on, or not, or late, or its answer not. */
  async #pass(
    request: IncomingMessage,
    response: ServerResponse,
    handle: (request: IncomingMessage, response: ServerResponse) => Promise<unknown>,
  ): Promise<void> {
    const roll = this.isCalm ? 100 : this.#dice() * 100
    try {
      if (roll < TROUBLES / 4) {
        await readBody(request)
        request.socket.destroy()
      } else if (roll < TROUBLES / 2) {
        // Everything is done, and nobody hears of it.
        const end = response.end.bind(response)
        response.end = (() => {
          request.socket.destroy()
          return end()
        }) as typeof response.end
        await handle(request, response)
      } else {
        if (roll < TROUBLES) await pause(this.#dice() * LATE_MS)
        await handle(request, response)
      }
    } catch {
      // The other side has gone.
      request.socket.destroy()
    }
  }

  /** One thing goes wrong. */
  async stir(): Promise<void> {
    const roll = this.#dice()
    if (roll < 0.5) {
      await this.sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and application_name = 'stepwell'
        order by md5(pid::text || ${String(roll)}) limit 2`.catch(() => {})
    } else if (roll < 0.6) {
      const at = Math.floor(this.#dice() * this.#processes.length)
      const [victim] = this.#processes.splice(at, 1, await this.#startEngine())
      // At once: its turns are lost, its leases are not given back by those who hold them.
      await victim?.engine.stop(0)
      await victim?.front.close()
    }
  }

  uuidOf(run: string): string {
    return decodeId('run', run) ?? ''
  }

  async brokenInvariants(): Promise<readonly unknown[]> {
    return this.sql`select * from stepwell.check_invariants()`
  }

  async close(): Promise<void> {
    await this.#app?.close()
    for (const { engine, front } of this.#processes) {
      await engine.stop(0)
      await front.close()
    }
    await this.sql.end({ timeout: 1 })
    await this.#database.drop()
  }
}
