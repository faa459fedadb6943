import { readFileSync } from 'node:fs'
import type { Sql } from 'stepwell/src/store/db.ts'

/** Counts what Postgres spends on operations: bytes of WAL, and CPU time of one backend. */
export interface Meter {
  begin(): Promise<void>
  end(): Promise<void>
  reset(): void
  read(): { walBytes: number; cpuUs: number }
}

/** A meter for the one connection of `measured`; it asks over `aside`, so that asking is not counted. */
export async function createMeter(measured: Sql, aside: Sql): Promise<Meter> {
  const [row] = await measured<{ pid: number }[]>`select pg_backend_pid() as pid`
  const pid = row?.pid ?? 0
  let [walBytes, cpuUs] = [0, 0]
  let before = { walBytes: 0, cpuUs: 0 }
  const now = async () => ({ walBytes: await walPosition(aside), cpuUs: cpuUsOf(pid) })
  return {
    async begin() {
      before = await now()
    },
    async end() {
      const after = await now()
      walBytes += after.walBytes - before.walBytes
      cpuUs += after.cpuUs - before.cpuUs
    },
    reset() {
      walBytes = 0
      cpuUs = 0
    },
    read: () => ({ walBytes, cpuUs }),
  }
}

async function walPosition(sql: Sql): Promise<number> {
  const [row] = await sql<{ bytes: number }[]>`
    select (pg_current_wal_insert_lsn() - '0/0')::float8 as bytes`
  return row?.bytes ?? 0
}

/** Linux tells the time on the CPU to the nanosecond; elsewhere it stays 0. */
function cpuUsOf(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1_000
  } catch {
    return 0
  }
}
