import { fingerprint } from '@stepwell/protocol'
import type { Config } from '../config.ts'
import { createEngine } from '../engine.ts'
import { createHttp } from '../http/app.ts'
import { createLog } from '../log.ts'
import { migrate } from '../store/migrate.ts'
import { nowMsOf } from '../usecases/held-runs.ts'
import { forgetEngine, newSigningKey, readDevFile, writeDevFile } from './dev-file.ts'
import { createDevOutput } from './dev-output.ts'
import { followApp } from './follow-app.ts'
import { keepPostgres } from './keep-postgres.ts'
import { listen } from './listen.ts'
import { explainPort } from './port-taken.ts'
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
  const { config } = options
  const terminal = createTerminal(world)
  const log = createLog(config.logLevel ?? 'error', 2)
  const output = createDevOutput(terminal)

  // First of all: a second engine on the same port stops here and has touched nothing.
  const server = await listen(LOOPBACK_HOSTS, config.port).catch(async (error: unknown) => {
    const message = await explainPort(error, config.port, config.home)
    if (message === null) throw error
    terminal.warn(message)
    return null
  })
  if (server === null) return EXIT.failed

  const closing: (() => Promise<void>)[] = [() => server.close()]
  try {
    const postgres = await keepPostgres({
      dataDir: options.dataDir,
      fresh: options.fresh,
      onDied: () => output.note('Postgres has ended unexpectedly. Starting it again…'),
      onBack: () => output.note('Postgres is back; everything goes on.'),
    })
    closing.push(() => postgres.stop())
    await migrate(postgres.connection)

    const signingKeys = config.signingKeys ?? [(await readDevFile(config.home)).signingKey ?? newSigningKey()]
    const engine = createEngine({
      connection: postgres.connection,
      log,
      selfUrl: config.selfUrl ?? `http://127.0.0.1:${server.port}`,
      capacity: config.concurrency,
      leaseMs: config.leaseMs,
      budgetMs: config.turnBudgetMs,
      turnTimeoutMs: config.turnTimeoutMs,
      isAlone: true,
      onSettled: (run, settle) =>
        output.settled({ function: run.function, runId: run.wireId, ms: nowMsOf(run) - run.startedAtMs, settle }),
    })
    // From here on the server closes between the last turn and the database.
    closing[0] = () => engine.stop(config.drainMs, () => server.close())
    const ws = await putKeys(engine.pools.upkeep, options.workspace, signingKeys)
    const syncApp: typeof engine.syncApp = async (catalog, request) => {
      const answer = await engine.syncApp(catalog, request)
      output.synced(answer)
      return answer
    }
    server.serve(createHttp({ engine: { ...engine, syncApp }, mode: 'dev', devWorkspace: options.workspace, log }))
    await engine.start()

    const url = `http://localhost:${server.port}`
    await postgres.setNote(url)
    // An address and no name: clients that try only one of a name's addresses reach us too.
    await writeDevFile(config.home, {
      url: `http://127.0.0.1:${server.port}`,
      pid: world.pid,
      signingKey: signingKeys[0],
    })
    closing.unshift(() => forgetEngine(config.home, world.pid))
    const appUrl = options.appUrl ?? (await engine.catalogs.get(ws)).url
    // This clock began with the process: what the person has waited.
    output.ready({ url, startMs: performance.now(), dataDir: postgres.dataDir, how: postgres.how, appUrl })
    log.info({ keys: signingKeys.map(fingerprint) }, 'signing keys')

    const stopFollowing = followApp({
      url: async () => options.appUrl ?? (await engine.catalogs.get(ws)).url,
      sync: async url => syncApp(await engine.catalogs.get(ws), { url }),
      onStrange: message => output.strange(message),
    })
    closing.unshift(stopFollowing)
    await Promise.race([world.stopAsked, postgres.lost])
    output.note('Stopping: turns in flight may end first. Press Ctrl-C again to stop at once.')
  } finally {
    for (const close of closing) await close()
    output.flush()
  }
  return EXIT.ok
}
