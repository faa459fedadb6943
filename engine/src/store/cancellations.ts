import type { CancelReason } from '@stepwell/protocol'
import type { RunId, WorkspaceId } from '../core/ids.ts'
import { plainArray } from './arrays.ts'
import type { Sql } from './db.ts'

/** Asks runs to end. Returns how many of them are live: each has been asked, now or before. */
export async function askToCancel(sql: Sql, ws: WorkspaceId, runIds: RunId[], reason: CancelReason): Promise<number> {
  const [row] = await sql<{ asked: number }[]>`
    select cardinality(stepwell.ask_to_cancel(${ws}, ${plainArray(runIds)}, ${reason.by}, ${reason.message})) as asked`
  return row?.asked ?? 0
}

/** Asks one batch of the children of one cancelled run. */
export async function walkCancelled(
  sql: Sql,
  ws: WorkspaceId,
  limit: number,
): Promise<{ asked: number; more: boolean }> {
  const [row] = await sql<{ asked: number; more: boolean }[]>`select * from stepwell.walk_cancelled(${ws}, ${limit})`
  return row ?? { asked: 0, more: false }
}

/** Workspaces in which cancelled runs have children to ask. */
export async function findCancelledParents(sql: Sql): Promise<WorkspaceId[]> {
  const rows = await sql<{ ws: WorkspaceId }[]>`select distinct ws from stepwell.cancelled_parents`
  return rows.map(row => row.ws)
}
