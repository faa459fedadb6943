import type { Config } from '../config.ts'
import { createEngine, type Engine } from '../engine.ts'
import { createEdge } from '../http/app.ts'
import { createLog, type Log } from '../log.ts'
import { migrate } from '../store/migrate.ts'
import { type Closing, createClosing } from './closing.ts'
import { forgetEngine, newSigningKey, readDevFile, writeDevFile } from './dev-file.ts'
import { createDevOutput, type DevOutput } from './dev-output.ts'
import { type Follower, followApp } from './follow-app.ts'
import { type KeptPostgres, keepPostgres } from './keep-postgres.ts'
import type { Listening } from './listen.ts'
import { takePort } from './take-port.ts'
import { createTerminal } from './terminal.ts'
import { putKeys } from './workspace-keys.ts'
import { EXIT, type World } from './world.ts'

/** Both, so that `localhost` is us whatever it resolves to first. */
const LOOPBACK_HOSTS = ['127.0.0.1', '::1']

export interface DevOptions {
  config: Config
  workspace: string
  dataDir: string
  /** Where the app's endpoint is; null when it will register by itself. */
  appUrl: string | null
  fresh: boolean
}

/** Engine and Postgres for one developer, until somebody asks it to stop. */
export async function runDev(world: World, options: DevOptions): Promise<number> {
  const { config, dataDir, fresh } = options
  const terminal = createTerminal(world)
  const output = createDevOutput(terminal, () => follower?.lookSoon())
  let follower: Follower | undefined
  const server = await takePort({ hosts: LOOPBACK_HOSTS, port: config.port, home: config.home, terminal })
  if (server === null) return EXIT.failed
  const closing = createClosing()
  closing.add(server.close)
  try {
    output.note('Starting Postgres…')
    const postgres = await keepPostgres({
      dataDir,
      fresh,
      onDied: () => output.note('Postgres has ended unexpectedly. Starting it again…'),
      onBack: () => output.note('Postgres is back; everything goes on.'),
    })
    closing.add(postgres.stop)
    follower = await serveDev({ world, options, server, postgres, output, closing })
    closing.add(follower.stop)
    await Promise.race([world.stopAsked, postgres.lost])
    output.note('Stopping: turns in flight may end first. Press Ctrl-C again to stop at once.')
  } finally {
    output.flush()
    await closing.closeAll()
  }
  return EXIT.ok
}

/** Migrates, starts the engine, lets apps find it, and says that it is ready. */
async function serveDev(parts: {
  world: World
  options: DevOptions
  server: Listening
  postgres: KeptPostgres
  output: DevOutput
  closing: Closing
}): Promise<Follower> {
  const { world, options, server, postgres, output, closing } = parts
  const { config, workspace } = options
  const log = createLog(config.logLevel ?? 'error', 2)
  const signingKeys = config.signingKeys ?? [(await readDevFile(config.home)).signingKey ?? newSigningKey()]
  // An address and no name: clients that try only one of a name's addresses reach us too.
  const url = `http://127.0.0.1:${server.port}`
  await migrate(postgres.connection)
  const engine = createDevEngine({ config, log, url, postgres, output })
  closing.add(() => engine.stop(config.drainMs, server.close))
  const ws = await putKeys(engine.pools.upkeep, workspace, signingKeys)
  const syncApp: Engine['syncApp'] = async (...given) => {
    const answer = await engine.syncApp(...given)
    output.synced(answer)
    return answer
  }
  server.serve(createEdge({ engine: { ...engine, syncApp }, mode: 'dev', devWorkspace: workspace, log }))
  await engine.start()

  const shownUrl = `http://localhost:${server.port}`
  await postgres.setNote(shownUrl)
  await writeDevFile(config.home, { url, pid: world.pid, signingKey: signingKeys[0] })
  closing.add(() => forgetEngine(config.home, world.pid))
  const appUrl = async () => options.appUrl ?? (await engine.catalogs.get(ws)).url
  const { dataDir, how } = postgres
  // This clock began with the process: what the person has waited.
  output.ready({ url: shownUrl, startMs: performance.now(), dataDir, how, appUrl: await appUrl() })
  return followApp({
    url: appUrl,
    isNamed: options.appUrl !== null,
    sync: async (found, how) => syncApp(await engine.catalogs.get(ws), { url: found }, how),
    onStrange: message => output.strange(message),
  })
}

function createDevEngine(parts: {
  config: Config
  log: Log
  url: string
  postgres: KeptPostgres
  output: DevOutput
}): Engine {
  const { config, log, url, postgres, output } = parts
  return createEngine({
    connection: postgres.connection,
    log,
    selfUrl: config.selfUrl ?? url,
    capacity: config.concurrency,
    leaseMs: config.leaseMs,
    budgetMs: config.turnBudgetMs,
    turnTimeoutMs: config.turnTimeoutMs,
    isAlone: true,
    onSettled: (run, settle, nowMs) =>
      output.settled({ function: run.function, runId: run.wireId, ms: nowMs - run.startedAtMs, settle }),
  })
}
