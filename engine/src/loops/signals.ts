/*
 * Wakes between processes: one coalesced NOTIFY at most every 10 ms, on a connection of its own and outside every
 * transaction that writes (a NOTIFY inside one makes all of them commit one after another). A hint: with it off, polls
 * find everything, later.
 */
import type { WorkerId, WorkspaceId } from '../core/ids.ts'
import type { Log } from '../log.ts'
import type { Sql } from '../store/db.ts'
import { listenForWakes, notifyWakes } from '../store/signals.ts'

export interface Signals {
  /** Tell the others that the workspace may have runnable runs. */
  wake(ws: WorkspaceId): void
  stop(): Promise<void>
}

const COALESCE_MS = 10

/** Starts listening; `onWake` is called for what others say. */
export async function startSignals(deps: {
  sql: Sql
  log: Log
  worker: WorkerId
  onWake: (ws: WorkspaceId) => void
}): Promise<Signals> {
  const pending = new Set<WorkspaceId>()
  let timer: NodeJS.Timeout | null = null
  const listening = await listenForWakes(deps.sql, message => {
    if (message.worker !== deps.worker) for (const ws of message.workspaces) deps.onWake(ws)
  })

  function flush(): void {
    timer = null
    const workspaces = [...pending]
    pending.clear()
    notifyWakes(deps.sql, deps.worker, workspaces).catch(error => deps.log.warn({ err: error }, 'notify failed'))
  }

  return {
    wake(ws) {
      pending.add(ws)
      timer ??= setTimeout(flush, COALESCE_MS)
    },
    async stop() {
      if (timer !== null) clearTimeout(timer)
      await listening.unlisten().catch(() => {})
    },
  }
}
