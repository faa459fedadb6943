import { fingerprint } from '@stepwell/protocol'
import type { Config } from '../config.ts'
import { createEngine } from '../engine.ts'
import { createEdge } from '../http/app.ts'
import { createLog } from '../log.ts'
import { migrate } from '../store/migrate.ts'
import { createClosing } from './closing.ts'
import { connectionOf } from './database-url.ts'
import { takePort } from './take-port.ts'
import { createTerminal } from './terminal.ts'
import { putKeys } from './workspace-keys.ts'
import { EXIT, type World } from './world.ts'

const ALL_ADDRESSES = ['0.0.0.0', '::']

export interface StartOptions {
  config: Config
  databaseUrl: string
  signingKeys: string[]
  workspace: string
}

/** One engine process of many on a Postgres of one's own, until somebody asks it to stop. */
export async function runStart(world: World, options: StartOptions): Promise<number> {
  const { config, signingKeys } = options
  const terminal = createTerminal(world)
  const log = createLog(config.logLevel ?? 'info')
  const host = config.host ?? '0.0.0.0'
  const server = await takePort({ hosts: [host], port: config.port, home: config.home, terminal })
  if (server === null) return EXIT.failed

  const closing = createClosing()
  closing.add(server.close)
  try {
    const connection = connectionOf(options.databaseUrl)
    const applied = await migrate(connection)
    log.info({ applied }, 'database migrated')
    const isEverywhere = ALL_ADDRESSES.includes(host)
    const selfUrl = config.selfUrl ?? urlOf(isEverywhere ? '127.0.0.1' : host, server.port)
    if (config.selfUrl === null && isEverywhere)
      log.warn({ selfUrl }, 'STEPWELL_SELF_URL is not set: only apps on this machine can send reports')
    const engine = createEngine({
      connection,
      log,
      selfUrl,
      capacity: config.concurrency,
      leaseMs: config.leaseMs,
      budgetMs: config.turnBudgetMs,
      turnTimeoutMs: config.turnTimeoutMs,
    })
    closing.add(() => engine.stop(config.drainMs, server.close))
    await putKeys(engine.pools.upkeep, options.workspace, signingKeys)
    server.serve(createEdge({ engine, mode: 'start', log }))
    await engine.start()
    log.info(
      { host, port: server.port, selfUrl, workspace: options.workspace, keys: signingKeys.map(fingerprint) },
      'engine ready',
    )
    const signal = await world.stopAsked
    log.info({ signal, drainMs: config.drainMs }, 'engine stopping')
  } finally {
    await closing.closeAll()
  }
  log.info('engine stopped')
  return EXIT.ok
}

function urlOf(host: string, port: number): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}
