import type { Sql } from './db.ts'

const WEEKS_AHEAD = 2
/** Six tables, this week and the weeks ahead; some more, for a week that begins meanwhile. */
const MISSING_MAX = 6 * (WEEKS_AHEAD + 2)

/** Creates the partitions of this week and the next ones, each in a transaction of its own. */
export async function ensurePartitions(sql: Sql): Promise<void> {
  for (let created = 0; created < MISSING_MAX; created += 1) {
    const [row] = await sql<{ isCreated: boolean }[]>`select stepwell.ensure_partition(${WEEKS_AHEAD}) as is_created`
    if (row?.isCreated !== true) return
  }
}
