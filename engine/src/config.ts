/*
 * Everything that can be set: a flag, else an environment variable, else a default. `VARIABLES` is the one table; the
 * help prints it. All mistakes are found before anything starts, and told at once.
 */
import { homedir } from 'node:os'
import { join } from 'node:path'
import { type Duration, formatDuration, isSecret, LIMITS, parseDuration } from '@stepwell/protocol'
import { z } from 'zod'
import { nearestName } from './core/nearest-name.ts'
import { connectionFromUrl } from './embedded/connection.ts'

export interface Variable {
  name: string
  /** Read when `name` is not set. */
  otherwise?: string
  /** As text, the way that one would set it; null when there is none. */
  default: string | null
  /** What the text is. */
  unit: string
  what: string
  /** How to get one, for whoever has to set it and has not. */
  how?: string
}

const LEASE_MIN_MS = 1_000
const DURATION_MAX_MS = 24 * 3_600_000

const duration = (minMs: number) =>
  z.string().transform((text, context) => {
    try {
      const ms = parseDuration(text as Duration)
      if (ms >= minMs && ms <= DURATION_MAX_MS) return ms
      context.addIssue(`must be from ${formatDuration(minMs)} to ${formatDuration(DURATION_MAX_MS)}`)
    } catch (error) {
      context.addIssue(error instanceof Error ? error.message : String(error))
    }
    return z.NEVER
  })

const integer = (min: number, max: number) =>
  z
    .string()
    .refine(text => /^[0-9]{1,9}$/.test(text) && Number(text) >= min && Number(text) <= max, {
      error: `must be a whole number from ${min} to ${max}`,
    })
    .transform(Number)

const httpUrl = z
  .string()
  .refine(
    text => /^https?:\/\//i.test(text) && URL.canParse(text),
    'must be a URL that starts with http:// or https://',
  )

/** Several hosts with commas are no URL to Node, but the driver knows them. */
function isPostgresUrl(text: string): boolean {
  return /^postgres(ql)?:\/\//.test(text) && URL.canParse(text.replace(/,[^/?]*/, ''))
}

// No secret may be shown: messages name the variable and never its value.
const databaseUrl = z
  .string()
  .refine(
    text => connectionFromUrl(text) !== undefined || isPostgresUrl(text),
    'must be a URL like postgres://user:password@host:5432/database, with special characters in the password encoded (%40 for @)',
  )

const signingKeys = z
  .string()
  .transform(text => text.split(/[\s,]+/).filter(key => key !== ''))
  .refine(keys => keys.length > 0 && keys.every(isSecret), {
    error: 'must be "whsec_" and the base64 of 24 to 64 random bytes; several are separated by commas',
  })

const workspace = z
  .string()
  .max(LIMITS.workspaceChars)
  .regex(/^[A-Za-z0-9._-]+\/[A-Za-z0-9._-]+$/, 'must be app/environment, like "shop/prod"')

/** One line per variable, in the order of the help. */
export const VARIABLES = {
  databaseUrl: {
    name: 'STEPWELL_DATABASE_URL',
    otherwise: 'DATABASE_URL',
    default: null,
    unit: 'postgres:// URL',
    what: 'The database of start and migrate; dev has its own.',
    schema: databaseUrl,
  },
  host: {
    name: 'STEPWELL_HOST',
    default: null,
    unit: 'address',
    what: 'Where to listen: 0.0.0.0 for start. dev listens on loopback and nowhere else.',
    schema: z.string(),
  },
  port: {
    name: 'STEPWELL_PORT',
    default: '3030',
    unit: 'port, 0 for a free one',
    what: 'Where to listen.',
    schema: integer(0, 65_535),
  },
  selfUrl: {
    name: 'STEPWELL_SELF_URL',
    default: null,
    unit: 'http:// URL',
    what: 'Where apps reach this very process, without a load balancer between. http://host:port if not set.',
    schema: httpUrl,
  },
  signingKeys: {
    name: 'STEPWELL_SIGNING_KEY',
    default: null,
    unit: 'whsec_ and base64; several with commas',
    what: "The workspace's signing key. dev makes one when it is not set.",
    how: 'Make one with: echo whsec_$(openssl rand -base64 32)  and give the same one to the app.',
    schema: signingKeys,
  },
  workspace: {
    name: 'STEPWELL_WORKSPACE',
    default: null,
    unit: 'app/environment',
    what: 'The workspace: default/dev for dev, default/prod for start.',
    schema: workspace,
  },
  home: {
    name: 'STEPWELL_HOME',
    default: '~/.stepwell',
    unit: 'folder',
    what: 'Where dev keeps its database and dev.json.',
    schema: z.string(),
  },
  concurrency: {
    name: 'STEPWELL_CONCURRENCY',
    default: '512',
    unit: 'turns',
    what: 'Turns in flight at most.',
    schema: integer(1, 10_000),
  },
  leaseMs: {
    name: 'STEPWELL_LEASE',
    default: '10s',
    unit: 'duration',
    what: 'A process without a heartbeat for that long counts as dead.',
    schema: duration(LEASE_MIN_MS),
  },
  turnTimeoutMs: {
    name: 'STEPWELL_TURN_TIMEOUT',
    default: '30s',
    unit: 'duration',
    what: 'How long an app may show no sign of life during a turn.',
    schema: duration(100),
  },
  turnBudgetMs: {
    name: 'STEPWELL_TURN_BUDGET',
    default: '20s',
    unit: 'duration',
    what: 'How long an app may start new steps within one turn.',
    schema: duration(1),
  },
  drainMs: {
    name: 'STEPWELL_DRAIN_TIMEOUT',
    default: '30s',
    unit: 'duration',
    what: 'How long turns in flight may take to settle at a stop.',
    schema: duration(0),
  },
  logLevel: {
    name: 'STEPWELL_LOG_LEVEL',
    default: null,
    unit: 'level',
    what: 'trace, debug, info, warn, error, fatal or silent: info for start, error for dev.',
    schema: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
      error: 'must be trace, debug, info, warn, error, fatal or silent',
    }),
  },
} as const satisfies Record<string, Variable & { schema: z.ZodType }>

type Key = keyof typeof VARIABLES
type Value<K extends Key> =
  | z.output<(typeof VARIABLES)[K]['schema']>
  | ((typeof VARIABLES)[K]['default'] extends null ? null : never)

/** What is set; null where nothing is and there is no default. */
export type Config = { [K in Key]: Value<K> }

export type Flags = { [K in Key]?: { flag: string; value: string } | undefined }

export type ConfigResult = { ok: true; config: Config; warnings: string[] } | { ok: false; mistakes: string[] }

const PREFIX = 'STEPWELL_'

/** Variables of the SDKs and of our own tests: they may stand in the same environment. */
const OTHERS = /^STEPWELL_(?:URL|APP_URL|DEV|ENV|EVENT_KEY|SIGNING_KEY_PREVIOUS|TEST_.*)$/

/** Reads flags and environment. `required` must be set; what is wrong comes back as sentences, all of it. */
export function readConfig(
  env: Readonly<Record<string, string | undefined>>,
  flags: Flags,
  required: readonly Key[] = [],
): ConfigResult {
  const mistakes: string[] = []
  const config: Partial<Record<Key, unknown>> = {}
  for (const key of Object.keys(VARIABLES) as Key[]) {
    const variable: Variable & { schema: z.ZodType } = VARIABLES[key]
    const found = findText(env, flags[key], variable)
    config[key] = null
    if (found === null) {
      const or = variable.otherwise === undefined ? '' : ` (or ${variable.otherwise})`
      if (required.includes(key)) mistakes.push(`${variable.name}${or} is not set. ${variable.how ?? variable.what}`)
      continue
    }
    const parsed = variable.schema.safeParse(found.text)
    if (parsed.success) config[key] = parsed.data
    else
      mistakes.push(
        `${found.source}: ${parsed.error.issues.map(issue => issue.message).join('; ')}.`.replace(/\.\.$/, '.'),
      )
  }
  if (mistakes.length > 0) return { ok: false, mistakes }
  // Every key was parsed by its own schema above, or is null where that has no default.
  return { ok: true, config: config as Config, warnings: unknownVariables(env) }
}

function findText(
  env: Readonly<Record<string, string | undefined>>,
  flag: { flag: string; value: string } | undefined,
  variable: Variable,
): { text: string; source: string } | null {
  if (flag !== undefined) return { text: flag.value, source: flag.flag }
  for (const name of [variable.name, variable.otherwise]) {
    // An empty variable is how a compose file or a shell leaves one out.
    const text = name === undefined ? undefined : env[name]?.trim()
    if (text) return { text, source: name ?? '' }
  }
  if (variable.default === null) return null
  return { text: variable.default.replace(/^~/, () => homedir()), source: variable.name }
}

function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known: string[] = Object.values(VARIABLES).map(variable => variable.name.slice(PREFIX.length))
  return Object.keys(env)
    .filter(name => name.startsWith(PREFIX) && !known.includes(name.slice(PREFIX.length)) && !OTHERS.test(name))
    .map(name => {
      // Without what all have in common, or everything would be near to everything.
      const nearest = nearestName(name.slice(PREFIX.length), known)
      return `${name} is not known and has no effect.${nearest === null ? '' : ` Did you mean ${PREFIX}${nearest}?`}`
    })
}

/** Where dev keeps its database when nothing else is said. */
export function dataDirOf(config: Config): string {
  return join(config.home, 'pgdata')
}
