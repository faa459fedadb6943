import { connectionFromUrl } from '../embedded/connection.ts'
import { type Connection, isDatabaseAway } from '../store/db.ts'

const PASSWORD_REFUSED = ['28P01', '28000']
const NO_DATABASE = '3D000'

/** What to connect to. URLs with a unix socket in them are not understood by the driver, so they are taken apart here. */
export function connectionOf(url: string): Connection {
  return connectionFromUrl(url) ?? url
}

/** One sentence about a database that does not let us in, without its password; null when the error is another one. */
export function explainDatabase(error: unknown): string | null {
  const { code } = (error ?? {}) as { code?: unknown }
  if (isDatabaseAway(error))
    return `The database cannot be reached (${code}). Check STEPWELL_DATABASE_URL, and that Postgres runs.`
  if (typeof code !== 'string') return null
  if (PASSWORD_REFUSED.includes(code))
    return 'The database refuses the user or the password. Check STEPWELL_DATABASE_URL.'
  if (code === NO_DATABASE) return 'The database does not exist. Create it, or check STEPWELL_DATABASE_URL.'
  return null
}
