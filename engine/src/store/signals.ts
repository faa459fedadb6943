import type { WorkerId, WorkspaceId } from '../core/ids.ts'
import type { Sql } from './db.ts'

const CHANNEL = 'stepwell_wakes'

export interface WakeMessage {
  worker: WorkerId
  workspaces: WorkspaceId[]
}

/** Listens on a session connection of its own, which the driver renews when it is lost. */
export async function listenForWakes(
  sql: Sql,
  onMessage: (message: WakeMessage) => void,
): Promise<{ unlisten: () => Promise<void> }> {
  return sql.listen(CHANNEL, payload => onMessage(JSON.parse(payload) as WakeMessage))
}

/** One notification for many workspaces. */
export async function notifyWakes(sql: Sql, worker: WorkerId, workspaces: WorkspaceId[]): Promise<void> {
  const message: WakeMessage = { worker, workspaces }
  await sql`select pg_notify(${CHANNEL}, ${JSON.stringify(message)})`
}
