/*
 * The commands, their flags and their examples. What a command does is in the file of its name.
 */
import { resolve } from 'node:path'
import type { ArgsDef } from 'citty'
import { type Config, dataDirOf, type Flags, readConfig, VARIABLES } from '../config.ts'
import { DEV_WORKSPACE, START_WORKSPACE } from '../http/gate.ts'
import { runDev } from './dev.ts'
import { runMigrate } from './migrate.ts'
import { runStart } from './start.ts'
import { createTerminal } from './terminal.ts'
import { EXIT, type World } from './world.ts'

const LOOPBACK = /^(?:localhost|127\.0\.0\.1|::1|\[::1\])$/

const port = { type: 'string', valueHint: 'PORT', description: 'Where to listen; 0 for a free port (3030)' } as const

export interface Command {
  description: string
  flags: ArgsDef
  examples: string[]
  /** Lines below the examples. */
  notes?: string[]
  /** `flags` are those that were given, by the names above. Returns the exit code. */
  run(world: World, flags: GivenFlags): Promise<number>
}

export type GivenFlags = Readonly<Record<string, string | boolean | undefined>>

export const COMMANDS: Readonly<Record<string, Command>> = {
  dev: {
    description: 'The engine and a Postgres of its own, for developing on this machine',
    flags: {
      url: {
        type: 'string',
        alias: 'u',
        valueHint: 'URL',
        description: "Where your app's endpoint is, if it does not register by itself",
      },
      port,
      'data-dir': {
        type: 'string',
        valueHint: 'FOLDER',
        description: 'Where the database is kept (~/.stepwell/pgdata)',
      },
      fresh: { type: 'boolean', description: 'Delete the data and begin anew' },
    },
    examples: [
      'stepwell dev',
      'stepwell dev -u http://localhost:3000/api/stepwell',
      'stepwell dev --port 0 --data-dir ./.stepwell --fresh',
    ],
    run: dev,
  },
  start: {
    description: 'The engine on your own Postgres; every request is signed',
    flags: { port, host: { type: 'string', valueHint: 'ADDRESS', description: 'Where to listen (0.0.0.0)' } },
    examples: ['DATABASE_URL=postgres://user:password@host/db STEPWELL_SIGNING_KEY=whsec_… stepwell start'],
    notes: [
      '',
      'The signing key',
      `  ${VARIABLES.signingKeys.how}`,
      '',
      "The app's environment",
      '',
      'STEPWELL_URL=http://127.0.0.1:3030',
      'STEPWELL_SIGNING_KEY=whsec_…',
      `STEPWELL_WORKSPACE=${START_WORKSPACE}`,
      'STEPWELL_APP_URL=http://127.0.0.1:3000/api/stepwell',
    ],
    run: start,
  },
  migrate: {
    description: "Brings your own Postgres to this version's schema; start does it too",
    flags: {},
    examples: ['DATABASE_URL=postgres://user:password@host/db stepwell migrate'],
    run: migrate,
  },
}

async function dev(world: World, given: GivenFlags): Promise<number> {
  const config = configure(world, { port: flagOf(given, 'port') }, [])
  if (config === null) return EXIT.usage
  const terminal = createTerminal(world)
  if (config.host !== null && !LOOPBACK.test(config.host)) {
    terminal.warn(
      `STEPWELL_HOST is ${config.host}, but dev takes unsigned requests and listens on loopback only. Use "stepwell start" to be reached by others.`,
    )
    return EXIT.usage
  }
  const appUrl = flagOf(given, 'url')?.value ?? null
  if (appUrl !== null && !(/^https?:\/\//i.test(appUrl) && URL.canParse(appUrl))) {
    terminal.warn('--url must be a URL that starts with http:// or https://, like http://localhost:3000/api/stepwell.')
    return EXIT.usage
  }
  if (world.env.STEPWELL_DATABASE_URL)
    terminal.warn('STEPWELL_DATABASE_URL has no effect on dev, which has its own Postgres.')
  const dataDir = flagOf(given, 'data-dir')?.value
  return runDev(world, {
    config,
    workspace: config.workspace ?? DEV_WORKSPACE,
    dataDir: resolve(dataDir === undefined || dataDir === '' ? dataDirOf(config) : dataDir),
    appUrl,
    fresh: given.fresh === true,
  })
}

async function start(world: World, given: GivenFlags): Promise<number> {
  const flags = { port: flagOf(given, 'port'), host: flagOf(given, 'host') }
  const config = configure(world, flags, ['databaseUrl', 'signingKeys'])
  if (config === null || config.databaseUrl === null || config.signingKeys === null) return EXIT.usage
  return runStart(world, {
    config,
    databaseUrl: config.databaseUrl,
    signingKeys: config.signingKeys,
    workspace: config.workspace ?? START_WORKSPACE,
  })
}

async function migrate(world: World): Promise<number> {
  const config = configure(world, {}, ['databaseUrl'])
  if (config === null || config.databaseUrl === null) return EXIT.usage
  return runMigrate(world, { databaseUrl: config.databaseUrl })
}

/** The configuration, or null after all that is wrong with it was said. */
function configure(world: World, flags: Flags, required: Parameters<typeof readConfig>[2]): Config | null {
  const { warn } = createTerminal(world)
  const result = readConfig(world.env, flags, required)
  for (const line of result.ok ? result.warnings : result.mistakes) warn(line)
  return result.ok ? result.config : null
}

function flagOf(given: GivenFlags, name: string): { flag: string; value: string } | undefined {
  const value = given[name]
  return typeof value === 'string' ? { flag: `--${name}`, value } : undefined
}
