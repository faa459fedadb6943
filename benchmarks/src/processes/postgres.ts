/* A Postgres for a peer, from the same binaries and with the same settings as Stepwell's own; and what one has written. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import type { Connection } from 'stepwell/src/embedded/connection.ts'
import { startEmbeddedPostgres } from 'stepwell/src/embedded/postgres.ts'
import { killAtExit } from './kill-at-exit.ts'

export interface Written {
  walBytes: number
  /** Transactions that wrote, which are those whose commit waits for the disk. */
  transactions: number
}

export interface PostgresProbe {
  /** What autovacuum does within a minute: nobody is measured on the plans of an empty table. */
  analyze(): Promise<void>
  written(): Promise<Written>
  version(): Promise<string>
  close(): Promise<void>
}

/** One connection, which does nothing while something is being measured. */
export function probePostgres(connection: Connection): PostgresProbe {
  const sql = postgres({ ...connection, max: 1, onnotice: () => {} })
  return {
    async analyze() {
      await sql`vacuum analyze`
    },
    async written() {
      // Ids are given to transactions at their first write, and unlike the statistics they are never late.
      const [row] = await sql<[{ lsn: string; xid: string }]>`
        select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as lsn, pg_snapshot_xmax(pg_current_snapshot())::text as xid
      `
      return { walBytes: Number(row.lsn), transactions: Number(row.xid) }
    },
    async version() {
      const [row] = await sql<[{ version: string }]>`select current_setting('server_version') as version`
      return row.version
    },
    close: () => sql.end({ timeout: 1 }),
  }
}

export async function startPostgres(): Promise<{ connection: Connection; pid: number; stop(): Promise<void> }> {
  const home = await mkdtemp(join(tmpdir(), 'bench-postgres-'))
  const server = await startEmbeddedPostgres({ dataDir: join(home, 'pgdata') })
  // It is made to outlive the one who starts it.
  const kill = killAtExit(server.postmasterPid, home)
  return {
    connection: server.connection,
    pid: server.postmasterPid,
    async stop() {
      await server.stop()
      kill.cancel()
      await rm(home, { recursive: true, force: true })
    },
  }
}
