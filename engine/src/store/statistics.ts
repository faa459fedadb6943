import type { Sql } from './db.ts'

/** Analyses the table that has outgrown its statistics the most. Returns its name; null when none has. */
export async function refreshStatistics(sql: Sql): Promise<string | null> {
  const [row] = await sql<{ analysed: string | null }[]>`select stepwell.refresh_statistics() as analysed`
  return row?.analysed ?? null
}
