import type { WorkspaceId } from '../core/ids.ts'
import type { Sql } from './db.ts'

/**
 * Resumes up to `limit` runs whose sleep, time-out, back-off or resend is due. `fromMs`: leave out what was due before that
 * instant of the database's clock (Unix milliseconds); null for nothing. `nextMs`: until the next one is due. `leftFromMs`: no
 * wait is left that is due before.
 */
export async function fireTimers(
  sql: Sql,
  ws: WorkspaceId,
  limit: number,
  fromMs: number | null = null,
): Promise<{ fired: number; nextMs: number | null; leftFromMs: number }> {
  const [row] = await sql<{ fired: number; nextMs: number | null; leftFromMs: number }[]>`
    select * from stepwell.fire_timers(${ws}, ${limit}, ${fromMs})`
  if (row === undefined) throw new Error('The statement returned no row.')
  return row
}

/** Workspaces that have waits in time, by a loose walk of the index. */
export async function findTimed(sql: Sql): Promise<WorkspaceId[]> {
  const rows = await sql<{ ws: WorkspaceId }[]>`
    with recursive walk as (
      (select ws from stepwell.waits where due_at is not null order by ws limit 1)
      union all
      select (select w.ws from stepwell.waits w where w.due_at is not null and w.ws > walk.ws order by w.ws limit 1)
      from walk where walk.ws is not null
    )
    select ws from walk where ws is not null`
  return rows.map(row => row.ws)
}
