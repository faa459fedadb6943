import type { Ack, Turn } from '@stepwell/protocol'
import type { Catalog } from '../core/catalog.ts'
import type { RunId, Token, WorkspaceId } from '../core/ids.ts'
import type { Invocable } from '../core/invocable.ts'
import type { Snapshot } from '../core/snapshot.ts'
import type { Parent } from '../store/queue.ts'

/** A run that this process holds under a lease, for the length of one turn. */
export interface HeldRun {
  catalog: Catalog
  /** What it may invoke. */
  functions: Invocable
  ws: WorkspaceId
  runId: RunId
  /** `run_…`, as the app knows it. */
  wireId: string
  function: string
  /** Of the function. */
  version: number
  token: Token
  turn: number
  snapshot: Snapshot
  /** The run that invoked it; null when an event started it. */
  parent: Parent | null
  /** What is recorded of what it says of itself, as JSON texts: at the claim. */
  said: { status: string | null; tags: string | null }
  /** The seq that the run's next entry gets. */
  nextSeq: number
  /** When the run began, by the database's clock: how far its waits look back. */
  startedAtMs: number
  /** When it became runnable, by the database's clock. */
  readyAtMs: number
  /** Our monotonic clock at the claim: the turn's stamps count from there. */
  claimedAtMonotonicMs: number
  /** Our clock, at the last time that the app showed that it works on this turn. */
  lastSignAtMonotonicMs: number
  sentMs: number | null
  firstByteMs: number | null
  replayMs: number | null
  /** The last report that was applied and its answer: delivered twice, it is applied once. */
  last: { n: number; ack: Promise<Ack> } | null
  /** The app has ended the turn; its last report is being written and no other is taken. */
  isEnding: boolean
  /** The turn is over for us: settled, or lost. Nothing more is accepted. */
  isOver: boolean
}

/** The journal as the app gets it: `Turn['journal']` as JSON text. Dropped once it is sent. */
export type JournalText = string & { readonly journal?: Turn['journal'] }

/** What this process holds, by run. */
export class HeldRuns {
  readonly #byRun = new Map<RunId, HeldRun>()

  add(run: HeldRun): void {
    this.#byRun.set(run.runId, run)
  }

  /** Forgets the run, unless it is held anew since. */
  drop(run: HeldRun): void {
    run.isOver = true
    if (this.#byRun.get(run.runId) === run) this.#byRun.delete(run.runId)
  }

  find(runId: RunId, token: string): HeldRun | null {
    const run = this.#byRun.get(runId)
    return run !== undefined && run.token === token && !run.isEnding && !run.isOver ? run : null
  }

  has(runId: RunId, token: Token): boolean {
    return this.#byRun.get(runId)?.token === token
  }

  /** Whether this process holds the run, under whatever token. */
  holds(ws: WorkspaceId, runId: RunId): boolean {
    return this.#byRun.get(runId)?.ws === ws
  }

  get size(): number {
    return this.#byRun.size
  }
}
