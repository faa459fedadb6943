/*
 * One engine with its HTTP API on a real port and a database of its own, in this process; and apps on real ports. For the
 * tests that need no killing.
 */
import { randomBytes } from 'node:crypto'
import { getRequestListener } from '@hono/node-server'
import { decodeId, type JournalEntryView, type Json, type RunView } from '@stepwell/protocol'
import { type DurableFunction, StepwellClient, serve } from '@stepwell/sdk'
import type { RunId, WorkspaceId } from '../../src/core/ids.ts'
import { createEngine, type Engine, type EngineOptions } from '../../src/engine.ts'
import { createHttp } from '../../src/http/app.ts'
import { createLog } from '../../src/log.ts'
import { ensureWorkspace } from '../../src/store/workspaces.ts'
import { createTestDatabase, type TestDatabase } from '../database.ts'
import { type ListeningServer, listen } from './app-server.ts'
import { waitUntil } from './wait-until.ts'

export interface TestSystem {
  database: TestDatabase
  engine: Engine
  front: ListeningServer
  ws: WorkspaceId
  signingKey: string
  client: StepwellClient
  /** Serves the functions on a port of their own and registers them. */
  serveApp(functions: DurableFunction[]): Promise<ListeningServer>
  /** Sends one event. Gives the run that it started. */
  start(name: string, data?: Json): Promise<string>
  /** Sends one event and waits until the run that it started has ended. */
  runToEnd(event: { name: string; data?: Json }): Promise<RunView>
  /** Waits until a run is in one of the states. */
  waitForState(run: string, ...states: RunView['state'][]): Promise<RunView>
  journal(run: string): Promise<JournalEntryView[]>
  /** Waits until the journal of a run has so many entries of a type. */
  waitForEntries(run: string, type: JournalEntryView['type'], count: number): Promise<void>
  /** The child that a run has started, as soon as it has. */
  childOf(run: string): Promise<string>
  /** The open promises of the database: empty when all are kept. */
  brokenInvariants(): Promise<readonly unknown[]>
  uuidOf(run: string): RunId
  stop(): Promise<void>
}

const DRAIN_MS = 5_000

/** Starts engine and API. `options` shorten what a test would wait for. */
export async function startSystem(options: Partial<EngineOptions> = {}): Promise<TestSystem> {
  const database = await createTestDatabase()
  const log = createLog('silent')
  const signingKey = `whsec_${randomBytes(32).toString('base64')}`
  let listener: ReturnType<typeof getRequestListener> | null = null
  const front = await listen((request, response) => listener?.(request, response))
  const engine = createEngine({ connection: database.connection, log, selfUrl: front.url, ...options })
  listener = getRequestListener(createHttp({ engine, mode: 'start', log }).fetch)
  const ws = await ensureWorkspace(engine.pools.upkeep, 'default/test', signingKey)
  await engine.start()
  const client = new StepwellClient({ url: front.url, signingKey, workspace: 'default/test' })
  const apps: ListeningServer[] = []

  async function waitForState(run: string, ...states: RunView['state'][]): Promise<RunView> {
    let view = await client.getRun(run)
    await waitUntil(
      `${run} is ${states.join(' or ')}`,
      async () => {
        view = await client.getRun(run)
        return states.includes(view.state)
      },
      { explain: () => JSON.stringify(view) },
    )
    return view
  }

  async function start(name: string, data: Json = {}): Promise<string> {
    const [sent] = await client.send({ name, data })
    const run = sent?.runs[0]
    if (run === undefined) throw new Error(`"${name}" started nothing.`)
    return run
  }

  async function waitForEntries(run: string, type: JournalEntryView['type'], count: number): Promise<void> {
    await waitUntil(`${run} has ${count} of ${type}`, async () => {
      const journal = await client.getJournal(run)
      return journal.filter(entry => entry.type === type).length >= count
    })
  }

  return {
    database,
    engine,
    front,
    ws,
    signingKey,
    client,
    waitForState,
    uuidOf: run => decodeId('run', run) as RunId,
    async serveApp(functions) {
      const app = await listen(serve(functions, { signingKey }))
      apps.push(app)
      await client.sync(functions, { url: app.url })
      return app
    },
    start,
    runToEnd: async ({ name, data }) => waitForState(await start(name, data), 'completed', 'failed'),
    journal: run => client.getJournal(run),
    waitForEntries,
    async childOf(run) {
      await waitForEntries(run, 'child_started', 1)
      const child = (await client.getJournal(run)).find(entry => entry.type === 'child_started')
      if (child?.type !== 'child_started') throw new Error(`${run} has no child.`)
      return child.data.run
    },
    brokenInvariants: () => engine.pools.read`select * from stepwell.check_invariants()`,
    async stop() {
      await Promise.all(apps.map(app => app.close()))
      await engine.stop(DRAIN_MS)
      await front.close()
      await database.drop()
    },
  }
}
