/** One engine and one app on this machine: started, killed and started again. */
import { join } from 'node:path'
import { type Child, startChild, waitUntilUp } from './child.ts'
import { stopPostgres } from './leftovers.ts'
import { APP_MAIN, ENGINE_MAIN } from './places.ts'

export interface StackOptions {
  /** Where the logs are put; null: both print where we print. */
  logFolder: string | null
  enginePort: number
  appPort: number
  /** The engine's STEPWELL_HOME; its own default when null. */
  home: string | null
  ledgerPath: string
  /** Settings of the app, by the names of their variables. */
  appEnv?: Record<string, string>
  /** Told of every process that is started, so that somebody can end it. */
  onStart?: (child: Child) => void
}

export interface Stack {
  engineUrl: string
  appUrl: string
  ledgerPath: string
  startEngine(): Promise<Child>
  /** @param settings in addition to those of the stack */
  startApp(settings?: Record<string, string>): Promise<Child>
  killEngine(): Promise<void>
  killApp(): Promise<void>
  /** Stops everything, also a Postgres that has lost its engine. */
  stop(): Promise<void>
}

const START_MS = 60_000

export function createStack(options: StackOptions): Stack {
  const { logFolder, enginePort, appPort, home, ledgerPath, appEnv = {}, onStart = () => {} } = options
  const engineUrl = `http://127.0.0.1:${enginePort}`
  const appUrl = `http://127.0.0.1:${appPort}`
  const homeEnv: Record<string, string> = home === null ? {} : { STEPWELL_HOME: home }
  let engine: Child | null = null
  let app: Child | null = null
  let isStopping = false

  const logPathOf = (name: string) => (logFolder === null ? null : join(logFolder, `${name}.log`))

  function refuseWhenStopping(): void {
    if (isStopping) throw new Error('Everything is being stopped.')
  }

  return {
    engineUrl,
    appUrl,
    ledgerPath,
    async startEngine() {
      refuseWhenStopping()
      engine = startChild({
        name: 'engine',
        file: ENGINE_MAIN,
        args: ['dev', '--port', String(enginePort)],
        // Nothing here runs for long: a stop need not wait for it.
        env: { ...homeEnv, STEPWELL_DRAIN_TIMEOUT: '2s' },
        logPath: logPathOf('engine'),
      })
      onStart(engine)
      await waitUntilUp(engine, `${engineUrl}/readyz`, START_MS)
      return engine
    },
    async startApp(settings = {}) {
      refuseWhenStopping()
      app = startChild({
        name: 'app',
        file: APP_MAIN,
        env: {
          ...homeEnv,
          STEPWELL_URL: engineUrl,
          PORT: String(appPort),
          GATEKEEPER_LEDGER: ledgerPath,
          ...appEnv,
          ...settings,
        },
        logPath: logPathOf('app'),
      })
      onStart(app)
      await waitUntilUp(app, `${appUrl}/readyz`, START_MS)
      return app
    },
    killEngine: async () => engine?.kill(),
    killApp: async () => app?.kill(),
    async stop() {
      isStopping = true
      await Promise.all([app?.stop(), engine?.stop()])
      if (home !== null) await stopPostgres(join(home, 'pgdata'))
    },
  }
}
