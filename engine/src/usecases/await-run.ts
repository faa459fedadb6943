/*
 * Waiting for a run's end. Whoever waits is told by the commit that ends the run, when this process makes it; a poll
 * beneath finds the ends that other processes make.
 */
import { encodeId, isFinalState, type RunView } from '@stepwell/protocol'
import type { SettleChange } from '../core/change.ts'
import type { RunId, WorkspaceId } from '../core/ids.ts'
import type { Sql } from '../store/db.ts'
import { findRun } from '../store/runs.ts'
import type { HeldRun, HeldRuns } from './held-runs.ts'

const POLL_MIN_MS = 20
const POLL_MAX_MS = 500
/** Requests that wait at once; further ones are answered with the run as it is. */
const WAITING_MAX = 1_000

type Told = (run: RunView | null) => void

/** Who waits for which run. */
export class RunEnds {
  readonly #waiting = new Map<RunId, Set<Told>>()
  #count = 0
  #isClosed = false

  get isFull(): boolean {
    return this.#isClosed || this.#count >= WAITING_MAX
  }

  /** Whether anybody wants to know. */
  isAwaited(runId: RunId): boolean {
    return this.#waiting.has(runId)
  }

  /** The run has ended, and that is committed. */
  tell(runId: RunId, run: RunView): void {
    for (const told of this.#waiting.get(runId) ?? []) told(run)
  }

  /** Resolves with the run when it ends, with null after `ms` or at the engine's end. */
  wait(runId: RunId, ms: number): Promise<RunView | null> {
    return new Promise(resolve => {
      const all = this.#waiting.get(runId) ?? new Set()
      const told: Told = run => {
        clearTimeout(timer)
        if (!all.delete(told)) return
        this.#count -= 1
        if (all.size === 0) this.#waiting.delete(runId)
        resolve(run)
      }
      const timer = setTimeout(() => told(null), ms)
      this.#waiting.set(runId, all.add(told))
      this.#count += 1
    })
  }

  /** Answers everybody: the engine is about to stop. */
  close(): void {
    this.#isClosed = true
    for (const all of this.#waiting.values()) for (const told of all) told(null)
  }
}

/** A run that has just ended, as the database would show it. */
export function endedRun(run: HeldRun, end: Extract<SettleChange, { step: 'done' }>, finishedAtMs: number): RunView {
  return {
    id: run.wireId,
    function: run.function,
    version: run.version,
    state: end.state,
    output: end.output === null ? null : JSON.parse(end.output),
    error: end.error === null ? null : JSON.parse(end.error),
    waitingFor: null,
    status: run.said.status === null ? null : JSON.parse(run.said.status),
    tags: run.said.tags === null ? {} : JSON.parse(run.said.tags),
    parent: run.parent === null ? null : encodeId('run', run.parent.runId),
    attempts: run.snapshot.attempts,
    generation: run.snapshot.generation,
    createdAt: new Date(run.startedAtMs).toISOString(),
    finishedAt: new Date(finishedAtMs).toISOString(),
  }
}

export interface AwaitRunDeps {
  sql: Sql
  held: HeldRuns
  ends: RunEnds
}

/** The run when it has ended, or as it is when `waitMs` are over; null when the workspace has none of that id. */
export async function awaitRun(
  deps: AwaitRunDeps,
  ws: WorkspaceId,
  runId: RunId,
  waitMs: number,
): Promise<RunView | null> {
  const untilMs = performance.now() + waitMs
  for (let pollMs = POLL_MIN_MS; ; pollMs = Math.min(POLL_MAX_MS, pollMs * 2)) {
    const leftMs = untilMs - performance.now()
    const isLast = leftMs <= 0 || deps.ends.isFull
    // A run that is held here is there, and has not ended.
    if (isLast || !deps.held.holds(ws, runId)) {
      const run = await findRun(deps.sql, ws, runId)
      if (isLast || run === null || isFinalState(run.state)) return run
    }
    const ended = await deps.ends.wait(runId, Math.min(leftMs, pollMs))
    if (ended !== null) return ended
  }
}
