import { VARIABLES } from '../config.ts'
import { connectionFromUrl } from '../embedded/connection.ts'
import { type Connection, isDatabaseAway } from '../store/db.ts'

const PASSWORD_REFUSED = ['28P01', '28000']
const NO_DATABASE = '3D000'
const DEFAULT_PORT = 5432

/** What to connect to. URLs with a unix socket in them are not understood by the driver, so they are taken apart here. */
export function connectionOf(url: string): Connection {
  return connectionFromUrl(url) ?? url
}

/**
 * One sentence about a database that does not let us in: which one, and by which variable, but not its password. Null when
 * the error is another one, or no variable names a database.
 */
export function explainDatabase(error: unknown, env: Readonly<Record<string, string | undefined>>): string | null {
  const variable = [VARIABLES.databaseUrl.name, VARIABLES.databaseUrl.otherwise].find(name => env[name]?.trim())
  const { code } = (error ?? {}) as { code?: unknown }
  if (variable === undefined || typeof code !== 'string') return null
  const { database, place } = nameDatabase(env[variable]?.trim() ?? '')
  const which = `database${database === null ? '' : ` "${database}"`}${place === null ? '' : ` at ${place}`}`
  if (isDatabaseAway(error))
    return `The ${which} cannot be reached (${code}). Check ${variable}, and that Postgres runs.`
  if (PASSWORD_REFUSED.includes(code)) return `The ${which} refuses the user or the password. Check ${variable}.`
  if (code === NO_DATABASE) return `The ${which} does not exist. Create it, or check ${variable}.`
  return null
}

/** Null for what a URL does not say, or not clearly: a password with special characters might be taken for the rest. */
function nameDatabase(url: string): { database: string | null; place: string | null } {
  const known = connectionFromUrl(url)
  if (known !== undefined) {
    const { host, port, database } = known
    return { database: database || null, place: host.startsWith('/') ? host : `${host}:${port}` }
  }
  const [, hosts, database] =
    /^postgres(?:ql)?:\/\/(?:[^/?#]*@)?([^/?#@]*)(?:\/([^?#@]*))?(?:[?#][^@]*)?$/.exec(url) ?? []
  const place = hosts?.split(',').map(host => (/:\d+$/.test(host) ? host : `${host}:${DEFAULT_PORT}`))
  return { database: database || null, place: hosts ? (place?.join(', ') ?? null) : null }
}
