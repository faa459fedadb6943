/*
 * Who follows which run from outside. A commit of this process tells the followers of its run at once; what other processes
 * commit is found by a poll beneath, one statement for all followed runs of a workspace, more often where something moves.
 */
import type { RunId, WorkspaceId } from '../core/ids.ts'
import type { Log } from '../log.ts'
import type { Sql } from '../store/db.ts'
import { findHeads } from '../store/published.ts'
import type { HeldRuns } from './held-runs.ts'

const POLL_MIN_MS = 50
const POLL_MAX_MS = 1_000
const POLL_RUNS_MAX = 500

export interface FollowersDeps {
  sql: Sql
  held: Pick<HeldRuns, 'holds'>
  log: Log
  /** At once. */
  max: number
}

/** A run that somebody follows, as the poll saw it last. */
interface Followed {
  ws: WorkspaceId
  runId: RunId
  followers: Set<Follower>
  head: number | null
  isLive: boolean
  pollMs: number
  pollAtMs: number
}

/** One reader of one run. */
export class Follower {
  isClosed = false
  #hasNews = false
  #onNews: (() => void) | null = null
  readonly #onClose: (follower: Follower) => void

  constructor(onClose: (follower: Follower) => void) {
    this.#onClose = onClose
  }

  tell(): void {
    this.#hasNews = true
    this.#onNews?.()
  }

  /** Whether there may be something new since the last call that said so; false after `ms`, and when it is closed. */
  async hasNews(ms: number): Promise<boolean> {
    if (!this.#hasNews && !this.isClosed) {
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, ms)
        this.#onNews = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      this.#onNews = null
    }
    const hasNews = this.#hasNews && !this.isClosed
    this.#hasNews = false
    return hasNews
  }

  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.#onClose(this)
    this.#onNews?.()
  }
}

/** All followers of one process. */
export class RunFollowers {
  readonly #deps: FollowersDeps
  readonly #followed = new Map<RunId, Followed>()
  #count = 0
  #isClosed = false
  #timer: NodeJS.Timeout | null = null
  #poll: Promise<void> = Promise.resolve()

  constructor(deps: FollowersDeps) {
    this.#deps = deps
  }

  get count(): number {
    return this.#count
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  get max(): number {
    return this.#deps.max
  }

  /** Whoever opens one closes it. Open it before the run is read: what comes after that is told. */
  open(ws: WorkspaceId, runId: RunId): Follower {
    const pollAtMs = performance.now() + POLL_MIN_MS
    const followed = this.#followed.get(runId) ?? {
      ...{ ws, runId, followers: new Set<Follower>() },
      ...{ head: null, isLive: true, pollMs: POLL_MIN_MS, pollAtMs },
    }
    const follower = new Follower(closed => {
      followed.followers.delete(closed)
      this.#count -= 1
      if (followed.followers.size === 0) this.#followed.delete(runId)
    })
    followed.followers.add(follower)
    this.#followed.set(runId, followed)
    this.#count += 1
    this.#setTimer()
    return follower
  }

  /** The run has published something, or has ended, and that is committed. */
  tell(runId: RunId): void {
    for (const follower of this.#followed.get(runId)?.followers ?? []) follower.tell()
  }

  /** Ends all of them: the engine is about to stop. */
  async close(): Promise<void> {
    this.#isClosed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    for (const { followers } of [...this.#followed.values()]) for (const follower of [...followers]) follower.close()
    await this.#poll
  }

  #setTimer(): void {
    if (this.#timer !== null || this.#isClosed || this.#followed.size === 0) return
    let atMs = Number.POSITIVE_INFINITY
    for (const { pollAtMs } of this.#followed.values()) atMs = Math.min(atMs, pollAtMs)
    // Those that are due a little later go along.
    const pauseMs = Math.max(POLL_MIN_MS / 2, atMs - performance.now())
    this.#timer = setTimeout(() => {
      this.#poll = this.#look().finally(() => {
        this.#timer = null
        this.#setTimer()
      })
    }, pauseMs)
  }

  /** Asks the database about the runs that are due. Never rejects. */
  async #look(): Promise<void> {
    const nowMs = performance.now()
    const due = new Map<WorkspaceId, Followed[]>()
    for (const followed of this.#followed.values()) {
      if (followed.pollAtMs > nowMs) continue
      followed.pollAtMs = nowMs + followed.pollMs
      // Whoever holds a run is the one who writes.
      if (this.#deps.held.holds(followed.ws, followed.runId)) continue
      const ofWorkspace = due.get(followed.ws)
      if (ofWorkspace === undefined) due.set(followed.ws, [followed])
      else if (ofWorkspace.length < POLL_RUNS_MAX) ofWorkspace.push(followed)
    }
    for (const [ws, runs] of due) {
      try {
        await this.#compare(ws, runs)
      } catch (error) {
        for (const followed of runs) followed.pollAtMs = performance.now() + POLL_MAX_MS
        if (!this.#isClosed) this.#deps.log.warn({ err: error }, 'followed runs not read, trying again')
      }
    }
  }

  async #compare(ws: WorkspaceId, runs: Followed[]): Promise<void> {
    const ids = runs.map(({ runId }) => runId)
    const heads = await findHeads(this.#deps.sql, ws, ids)
    for (const [index, { head, isLive }] of heads.entries()) {
      const followed = runs[index]
      if (followed === undefined) continue
      const isNew = followed.head !== head || followed.isLive !== isLive
      followed.pollMs = isNew ? POLL_MIN_MS : Math.min(POLL_MAX_MS, followed.pollMs * 2)
      followed.pollAtMs = performance.now() + followed.pollMs
      followed.head = head
      followed.isLive = isLive
      // Only what the poll saw counts here: each follower has read up to another point.
      if (isNew) for (const follower of followed.followers) follower.tell()
    }
  }
}
