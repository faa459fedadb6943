import type { WorkspaceId } from '../core/ids.ts'
import type { Sql } from './db.ts'

/** Resumes up to `limit` runs whose sleep, time-out, back-off or resend is due. `nextMs`: until the next one is. */
export async function fireTimers(
  sql: Sql,
  ws: WorkspaceId,
  limit: number,
): Promise<{ fired: number; nextMs: number | null }> {
  const [row] = await sql<
    { fired: number; nextMs: number | null }[]
  >`select * from stepwell.fire_timers(${ws}, ${limit})`
  return row ?? { fired: 0, nextMs: null }
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
