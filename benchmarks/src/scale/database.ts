import { randomBytes } from 'node:crypto'
import { putKeys } from 'stepwell/src/cli/workspace-keys.ts'
import type { WorkspaceId } from 'stepwell/src/core/ids.ts'
import { type Connection, connectionUrl } from 'stepwell/src/embedded/connection.ts'
import { open, type Sql } from 'stepwell/src/store/db.ts'
import { migrate } from 'stepwell/src/store/migrate.ts'
import { startPostgres } from '../processes/postgres.ts'

/** One Postgres; each question gets a database of its own. */
export interface Server {
  /** Runs `work` on a new, migrated database and drops it. */
  withDatabase<T>(work: (database: Database) => Promise<T>): Promise<T>
  stop(): Promise<void>
}

export interface Database {
  postmasterPid: number
  connection: Connection
  url: string
  /** One connection of ours, beside the engines'. */
  sql: Sql
  ws: WorkspaceId
  signingKey: string
}

export const WORKSPACE = 'bench/scale'

export async function startServer(): Promise<Server> {
  const postgres = await startPostgres()
  const postmasterPid = postgres.pid
  const main = open(postgres.connection, 1)
  let databases = 0
  return {
    async withDatabase(work) {
      databases += 1
      const name = `scale_${databases}`
      await main`create database ${main(name)}`
      const connection = { ...postgres.connection, database: name }
      const sql = open(connection, 1)
      try {
        await migrate(connection)
        const signingKey = `whsec_${randomBytes(32).toString('base64')}`
        const ws = await putKeys(sql, WORKSPACE, [signingKey])
        return await work({ postmasterPid, connection, url: connectionUrl(connection), sql, ws, signingKey })
      } finally {
        await sql.end()
        await main`drop database ${main(name)} with (force)`
      }
    },
    async stop() {
      await main.end()
      await postgres.stop()
    },
  }
}
