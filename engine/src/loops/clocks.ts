/*
 * What happens by time: timers, heartbeats, the reaper, fan-outs and upkeep. Each is a loop of its own, so that a slow one
 * holds up no other.
 */
import type { RunId, Token, WorkerId, WorkspaceId } from '../core/ids.ts'
import type { Log } from '../log.ts'
import { findCancelledParents, walkCancelled } from '../store/cancellations.ts'
import type { Sql } from '../store/db.ts'
import { findFanouts, forgetEventIds, walkFanouts } from '../store/ingest.ts'
import { ensurePartitions } from '../store/partitions.ts'
import { findLeased, findOrphans, forgetWorkers, giveBack, heartbeat, reap } from '../store/queue.ts'
import { refreshStatistics } from '../store/statistics.ts'
import { findTimed, fireTimers } from '../store/timers.ts'
import type { LowWater } from '../usecases/low-water.ts'
import { type Loop, startLoop } from './loop.ts'

const TIMERS_PER_BATCH = 500
/** How late a timer of a process that died fires at most, when nobody else knows of it. */
const TIMER_POLL_MS = 500
const FANOUT_WAKES_PER_BATCH = 500
const FANOUT_POLL_MS = 500
const CANCELLED_PER_BATCH = 500
const CANCELLATIONS_POLL_MS = 500
const STATISTICS_MS = 1_000
const UPKEEP_MS = 60_000
const EVENT_IDS_PER_BATCH = 5_000
const WORKER_MEMORY_MS = 3_600_000

export interface ClockDeps {
  sql: Sql
  log: Log
  wake: (ws: WorkspaceId) => void
}

/**
 * Fires what is due. It sleeps exactly until the next timer that this process knows of; a poll now and then finds the
 * workspaces in which only others have opened any.
 */
export function startTimers(deps: ClockDeps & { marks: LowWater; timed: Set<WorkspaceId> }): Loop {
  let polledAt = Number.NEGATIVE_INFINITY
  return startLoop({
    name: 'timers',
    log: deps.log,
    async work() {
      let pauseMs = TIMER_POLL_MS
      if (performance.now() - polledAt >= TIMER_POLL_MS) {
        for (const ws of await findTimed(deps.sql)) deps.timed.add(ws)
        polledAt = performance.now()
      }
      for (const ws of [...deps.timed]) {
        // Taken out first: who opens a wait while this looks puts it in again.
        deps.timed.delete(ws)
        const { fired, nextMs } = await deps.marks
          .read(ws, async fromMs => {
            const result = await fireTimers(deps.sql, ws, TIMERS_PER_BATCH, fromMs)
            return { result, leftFromMs: result.leftFromMs }
          })
          .catch(error => {
            deps.timed.add(ws)
            throw error
          })
        if (fired > 0) deps.wake(ws)
        if (nextMs === null) continue
        deps.timed.add(ws)
        pauseMs = Math.min(pauseMs, Math.max(0, nextMs))
      }
      return pauseMs
    },
  })
}

/**
 * Says that this process lives, and compares what the database says it holds with what it holds: a claim whose answer was
 * lost, or a run that was dropped because the database did not say whether it wrote, is given back.
 */
export function startHeartbeat(
  deps: ClockDeps & {
    worker: WorkerId
    note: string
    everyMs: number
    holds: (runId: RunId, token: Token) => boolean
    /** The database's clock, Unix milliseconds, and when it was asked for, by our monotonic clock. */
    onTime: (databaseMs: number, askedAtMs: number) => void
  },
): Loop {
  return startLoop({
    name: 'heartbeat',
    log: deps.log,
    async work() {
      const askedAtMs = performance.now()
      deps.onTime(await heartbeat(deps.sql, deps.worker, deps.note), askedAtMs)
      const orphans = (await findOrphans(deps.sql, deps.worker)).filter(row => !deps.holds(row.runId, row.token))
      for (const { ws, runId, token } of orphans) {
        await giveBack(deps.sql, ws, runId, token)
        deps.wake(ws)
      }
      if (orphans.length > 0) deps.log.warn({ runs: orphans.length }, 'leases without a holder given back')
      return deps.everyMs
    },
  })
}

/** Frees the runs of dead workers. */
export function startReaper(deps: ClockDeps & { leaseMs: number }): Loop {
  return startLoop({
    name: 'reaper',
    log: deps.log,
    async work() {
      for (const ws of await findLeased(deps.sql)) {
        const freed = await reap(deps.sql, ws, deps.leaseMs)
        if (freed === 0) continue
        deps.log.warn({ ws, runs: freed }, 'runs of a dead worker freed')
        deps.wake(ws)
      }
      return deps.leaseMs / 4
    },
  })
}

/** Walks events that satisfy more waits than one transaction should wake. */
export function startFanouts(deps: ClockDeps): Loop {
  return startLoop({
    name: 'fanouts',
    log: deps.log,
    async work() {
      let isMore = false
      for (const ws of await findFanouts(deps.sql)) {
        const { woken, more } = await walkFanouts(deps.sql, ws, FANOUT_WAKES_PER_BATCH)
        if (woken > 0) deps.wake(ws)
        isMore ||= more
      }
      return isMore ? 0 : FANOUT_POLL_MS
    },
  })
}

/** Asks the children of cancelled runs to end too. */
export function startCancellations(deps: ClockDeps): Loop {
  return startLoop({
    name: 'cancellations',
    log: deps.log,
    async work() {
      let isMore = false
      for (const ws of await findCancelledParents(deps.sql)) {
        const { asked, more } = await walkCancelled(deps.sql, ws, CANCELLED_PER_BATCH)
        if (asked > 0) deps.wake(ws)
        isMore ||= more
      }
      return isMore ? 0 : CANCELLATIONS_POLL_MS
    },
  })
}

/** Has the planner's picture follow tables that grow: autovacuum would do so a minute late. */
export function startStatistics(deps: Pick<ClockDeps, 'sql' | 'log'>): Loop {
  return startLoop({
    name: 'statistics',
    log: deps.log,
    async work() {
      return (await refreshStatistics(deps.sql)) === null ? STATISTICS_MS : 0
    },
  })
}

/** Partitions ahead of time, and forgetting what is only remembered for a while. */
export function startUpkeep(deps: ClockDeps & { workspaces: () => Promise<WorkspaceId[]> }): Loop {
  return startLoop({
    name: 'upkeep',
    log: deps.log,
    async work() {
      await ensurePartitions(deps.sql)
      await forgetWorkers(deps.sql, WORKER_MEMORY_MS)
      for (const ws of await deps.workspaces()) {
        while ((await forgetEventIds(deps.sql, ws, EVENT_IDS_PER_BATCH)) === EVENT_IDS_PER_BATCH);
      }
      return UPKEEP_MS
    },
  })
}
