/*
 * Asks a run to end. What asks is written into the run's inbox like anything else that reaches it: the holder of the run, or
 * whoever claims it next, ends it, after the app has undone what is to be undone.
 */
import { type CancelAnswer, encodeId, isFinalState } from '@stepwell/protocol'
import { EngineError } from '../core/errors.ts'
import type { RunId, WorkspaceId } from '../core/ids.ts'
import { askToCancel } from '../store/cancellations.ts'
import type { Sql } from '../store/db.ts'
import { findRun } from '../store/runs.ts'

export interface CancelRunDeps {
  sql: Sql
  /** Runs of the workspace have become runnable. */
  wake: (ws: WorkspaceId) => void
}

export type CancelRun = (ws: WorkspaceId, runId: RunId, message: string) => Promise<CancelAnswer | null>

/** `(ws, run, message)`, resolved after the commit; null when there is no such run. Asked twice is asked once. */
export function createCancelRun(deps: CancelRunDeps): CancelRun {
  return async function cancelRun(ws, runId, message) {
    const asked = await askToCancel(deps.sql, ws, [runId], { by: 'request', message })
    if (asked > 0) deps.wake(ws)
    const run = await findRun(deps.sql, ws, runId)
    if (run === null) return null
    if (asked === 0 && isFinalState(run.state) && run.state !== 'cancelled') {
      const ended = `Run ${encodeId('run', runId)} has ${run.state} at ${run.finishedAt}: there is nothing to cancel.`
      throw new EngineError('run_ended', 409, ended)
    }
    return { run: run.id, state: run.state }
  }
}
