/*
 * Keeps up to `capacity` turns in flight. A wake names a workspace that may have runnable runs: a hint. The poll finds
 * them too, only later; it asks often while there is work and seldom when there is none.
 */
import type { WorkspaceId } from '../core/ids.ts'
import type { Log } from '../log.ts'
import type { Leased } from '../usecases/claim-runs.ts'
import type { FreshPlaces } from '../usecases/send-events.ts'
import { type Loop, startLoop } from './loop.ts'

export interface Worker extends FreshPlaces {
  wake(ws: WorkspaceId): void
  /** No more claims. Resolves when the claim under way has ended; turns go on. */
  stopClaiming(): Promise<void>
  /** Resolves when no turn is in flight. */
  idle(): Promise<void>
}

/** One claim at most: a batch that is still one quick statement. */
const CLAIM_RUNS_MAX = 100
/** A claim costs about the same for one run as for many: while there is little room, wait a moment for more. */
const GATHER_PLACES = 32
const GATHER_MS = 5
const POLL_MIN_MS = 50
const POLL_MAX_MS = 1_000
/** A poll that has dead rows to walk over takes at most a twentieth of the time; one that had to wait is not put off for long. */
const POLL_SHARE = 20
const POLL_PAUSE_MAX_MS = 5_000

export interface WorkerOptions {
  log: Log
  capacity: number
  findRunnable: () => Promise<WorkspaceId[]>
  claim: (ws: WorkspaceId, limit: number) => Promise<Leased[]>
  run: (leased: Leased) => Promise<void>
}

/** Starts claiming. */
export function startWorker(options: WorkerOptions): Worker {
  const ready = new Set<WorkspaceId>()
  let inFlight = 0
  let pollMs = POLL_MIN_MS
  let nextPollAt = 0
  let claimedAt = 0
  let isStopping = false
  /** What waits in the queue is not known before the first poll. */
  let hasPolled = false
  let isClaiming = false
  let whenIdle: (() => void)[] = []

  const loop: Loop = startLoop({ name: 'worker', log: options.log, work })

  async function work(): Promise<number> {
    if (inFlight >= options.capacity) return POLL_MAX_MS
    if (performance.now() >= nextPollAt) {
      const startedAt = performance.now()
      const found = await options.findRunnable()
      for (const ws of found) ready.add(ws)
      pollMs = found.length > 0 ? POLL_MIN_MS : Math.min(POLL_MAX_MS, pollMs * 2)
      const now = performance.now()
      nextPollAt = now + Math.max(pollMs, Math.min(POLL_PAUSE_MAX_MS, (now - startedAt) * POLL_SHARE))
      hasPolled = true
    }
    // In turn: a workspace with much work goes to the end of the line after each claim.
    for (const ws of [...ready]) {
      const limit = Math.min(options.capacity - inFlight, CLAIM_RUNS_MAX)
      if (limit <= 0) break
      const gatherMs = claimedAt + GATHER_MS - performance.now()
      if (limit < Math.min(GATHER_PLACES, options.capacity) && gatherMs > 0) return gatherMs
      ready.delete(ws)
      claimedAt = performance.now()
      const leased = await claim(ws, limit)
      if (leased.length === limit) ready.add(ws)
      if (leased.length > 0) pollMs = POLL_MIN_MS
    }
    if (inFlight >= options.capacity) return POLL_MAX_MS
    return ready.size > 0 ? 0 : nextPollAt - performance.now()
  }

  /** Claims and starts. The places are kept free meanwhile: `reserve` would give them away. */
  async function claim(ws: WorkspaceId, limit: number): Promise<Leased[]> {
    inFlight += limit
    isClaiming = true
    try {
      const leased = await options.claim(ws, limit)
      for (const one of leased) start(one)
      return leased
    } catch (error) {
      ready.add(ws)
      throw error
    } finally {
      isClaiming = false
      free(limit)
    }
  }

  function start(leased: Leased): void {
    inFlight += 1
    // Not awaited: turns run beside each other; the loop claims the next.
    options
      .run(leased)
      .catch(error => options.log.warn({ runId: leased.run.wireId, err: error }, 'turn given up'))
      .finally(() => free(1))
  }

  function free(places: number): void {
    const wasFull = inFlight >= options.capacity
    inFlight -= places
    if (wasFull || (ready.size > 0 && options.capacity - inFlight >= GATHER_PLACES)) loop.wake()
    if (inFlight > 0) return
    for (const resolve of whenIdle) resolve()
    whenIdle = []
  }

  return {
    wake(ws) {
      ready.add(ws)
      if (inFlight < options.capacity) loop.wake()
    },
    reserve(wanted) {
      // Runs that wait in the queue, of whatever workspace, come before fresh ones.
      if (isStopping || !hasPolled || isClaiming || ready.size > 0) return 0
      const places = Math.max(0, Math.min(wanted, CLAIM_RUNS_MAX, options.capacity - inFlight))
      inFlight += places
      return places
    },
    fill(reserved, leased) {
      for (const one of leased) start(one)
      free(reserved)
    },
    stopClaiming() {
      isStopping = true
      return loop.stop()
    },
    idle: () => (inFlight === 0 ? Promise.resolve() : new Promise(resolve => whenIdle.push(resolve))),
  }
}
