/*
 * Wires everything; the only place that does. No globals, so that a test can run several engines in one process.
 */
import { randomBytes } from 'node:crypto'
import { createUuid7, type RunView } from '@stepwell/protocol'
import { createCallApp } from './call/call-app.ts'
import type { RunId, WorkerId, WorkspaceId } from './core/ids.ts'
import type { Log } from './log.ts'
import {
  startCancellations,
  startFanouts,
  startHeartbeat,
  startReaper,
  startStatistics,
  startTimers,
  startUpkeep,
} from './loops/clocks.ts'
import { startSignals } from './loops/signals.ts'
import { startWorker, type Worker } from './loops/worker.ts'
import { type Connection, closePools, openPools, type Pools } from './store/db.ts'
import { findRunnable, forgetOtherWorkers, heartbeat, release } from './store/queue.ts'
import { listWorkspaces } from './store/workspaces.ts'
import { type AdvanceDeps, createAdvanceRun } from './usecases/advance-runs.ts'
import { awaitRun, endedRun, RunEnds } from './usecases/await-run.ts'
import { type CancelRun, createCancelRun } from './usecases/cancel-run.ts'
import { Catalogs } from './usecases/catalogs.ts'
import { claimRuns } from './usecases/claim-runs.ts'
import { DatabaseClock } from './usecases/database-clock.ts'
import { Shapes } from './usecases/ensure-shape.ts'
import { type Following, type FollowRequest, followRun } from './usecases/follow-run.ts'
import { HeldRuns } from './usecases/held-runs.ts'
import { LowWater } from './usecases/low-water.ts'
import { RunFollowers } from './usecases/run-followers.ts'
import { runTurn } from './usecases/run-turn.ts'
import { createSendEvents, type SendEvents } from './usecases/send-events.ts'
import { createSendMessage, type SendMessage } from './usecases/send-message.ts'
import { type SyncAppDeps, syncApp } from './usecases/sync-app.ts'
import { type TakeReportsDeps, takeReports } from './usecases/take-reports.ts'

export interface EngineOptions {
  connection: Connection
  log: Log
  /** Where apps reach this very process: `http://host:port`. */
  selfUrl: string
  /** Turns in flight at most. */
  capacity?: number
  /** A worker without a heartbeat for that long is dead. */
  leaseMs?: number
  /** How long an app may start new step bodies within one turn. */
  budgetMs?: number
  /** How long an app may show no sign of life during a turn. */
  turnTimeoutMs?: number
  /** Streams of runs that are open at once. */
  streamsMax?: number
  /** Nobody else can be running on this database: leases of other workers are void at once. */
  isAlone?: boolean
  /** Told after the commit that ended a turn. Must be quick and must not throw. */
  onSettled?: AdvanceDeps['onSettled']
}

export interface Engine {
  sendEvents: SendEvents
  sendMessage: SendMessage
  cancelRun: CancelRun
  takeReports: (
    ...args: Parameters<typeof takeReports> extends [TakeReportsDeps, ...infer Rest] ? Rest : never
  ) => ReturnType<typeof takeReports>
  syncApp: (
    ...args: Parameters<typeof syncApp> extends [SyncAppDeps, ...infer Rest] ? Rest : never
  ) => ReturnType<typeof syncApp>
  /** A run when it has ended, or as it is when the milliseconds are over. */
  awaitRun: (ws: WorkspaceId, runId: RunId, waitMs: number) => Promise<RunView | null>
  /** What a run publishes, as it comes; null when there is no such run. */
  followRun: (request: FollowRequest) => Promise<Following | null>
  catalogs: Catalogs
  pools: Pools
  /** Takes work. */
  start(): Promise<void>
  isDraining(): boolean
  /**
   * Stops claiming, lets turns settle for at most `drainMs`, hands back the rest, closes connections. `closeEdges` runs
   * between: when no turn needs the API any more, and before the API's database goes.
   */
  stop(drainMs: number, closeEdges?: () => Promise<void>): Promise<void>
}

export const ENGINE_DEFAULTS = {
  capacity: 512,
  leaseMs: 10_000,
  budgetMs: 20_000,
  turnTimeoutMs: 30_000,
  streamsMax: 1_000,
} as const

/** Builds an engine on a migrated database. Nothing runs until `start`; the use cases work at once. */
export function createEngine(options: EngineOptions): Engine {
  const { log } = options
  const settings = { ...ENGINE_DEFAULTS, ...options }
  const pools = openPools(options.connection)
  const catalogs = new Catalogs(pools.read)
  const shapes = new Shapes(pools.upkeep, catalogs)
  const held = new HeldRuns()
  const ends = new RunEnds()
  const followers = new RunFollowers({ sql: pools.read, held, log, max: settings.streamsMax })
  const { callApp, close: closeCalls } = createCallApp({ turnsAtOnce: settings.capacity })
  const clock = new DatabaseClock({ monotonicMs: () => performance.now(), wallMs: () => Date.now() })
  const nowMs = () => clock.nowMs()
  const newUuid = createUuid7({ now: nowMs, random: randomBytes })
  const workerId = newUuid() as WorkerId
  let worker: Worker | null = null
  let stops: (() => Promise<void>)[] = []
  let isDraining = false
  let tellOthers: (ws: WorkspaceId) => void = () => {}
  let timers: { wakeIn(ms: number): void } | null = null
  let cancellations: { wake(): void } | null = null

  const wake = (ws: WorkspaceId) => {
    worker?.wake(ws)
    tellOthers(ws)
  }
  const claimMarks = new LowWater()
  const timerMarks = new LowWater()
  /** Workspaces in which something is due some time. */
  const timed = new Set<WorkspaceId>()
  const wakeAt = (ws: WorkspaceId, dueAtMs: number) => {
    timed.add(ws)
    timerMarks.lower(ws, dueAtMs)
    timers?.wakeIn(Math.max(0, dueAtMs - nowMs()))
  }

  const sendEvents = createSendEvents({
    sql: pools.write,
    catalogs,
    newUuid,
    nowMs,
    wake,
    wakeAt,
    worker: workerId,
    held,
    places: {
      reserve: wanted => worker?.reserve(wanted) ?? 0,
      fill: (reserved, leased) => worker?.fill(reserved, leased),
    },
  })
  const advanceRun = createAdvanceRun({
    sql: pools.write,
    catalogs,
    shapes,
    held,
    newUuid,
    dice: Math.random,
    nowMs,
    log,
    wake,
    wakeAt,
    onSettled(run, settle, endedAtMs) {
      if (settle.step === 'done' && ends.isAwaited(run.runId)) ends.tell(run.runId, endedRun(run, settle, endedAtMs))
      if (settle.step === 'done' && settle.state === 'cancelled') cancellations?.wake()
      options.onSettled?.(run, settle, endedAtMs)
    },
    onPublished: run => followers.tell(run.runId),
  })
  const sendMessage = createSendMessage({ sql: pools.write, newUuid, nowMs, wake })
  const cancelRun = createCancelRun({ sql: pools.upkeep, wake })
  const reports: TakeReportsDeps = { sql: pools.read, held, worker: workerId, advanceRun, isDraining: () => isDraining }
  const claims = { sql: pools.claim, catalogs, held, worker: workerId, marks: claimMarks, nowMs }
  const turns = {
    callApp,
    advanceRun,
    held,
    dice: Math.random,
    reportUrl: `${options.selfUrl}/v1/reports`,
    budgetMs: settings.budgetMs,
    turnTimeoutMs: settings.turnTimeoutMs,
  }

  return {
    sendEvents,
    sendMessage,
    cancelRun,
    takeReports: (catalog, batch) => takeReports(reports, catalog, batch),
    syncApp: (catalog, request, how) =>
      syncApp({ sql: pools.upkeep, catalogs, callApp, wakeTimers: ws => wakeAt(ws, nowMs()) }, catalog, request, how),
    awaitRun: (ws, runId, waitMs) => awaitRun({ sql: pools.read, held, ends }, ws, runId, waitMs),
    followRun: request => followRun({ sql: pools.read, followers }, request),
    catalogs,
    pools,
    isDraining: () => isDraining,
    async start() {
      // The first one also opens the connection, which says nothing of the time.
      await heartbeat(pools.claim, workerId, options.selfUrl)
      const askedAtMs = performance.now()
      clock.note(await heartbeat(pools.claim, workerId, options.selfUrl), askedAtMs)
      if (options.isAlone === true) await forgetOtherWorkers(pools.claim, workerId)
      const deps = { sql: pools.upkeep, log, wake: (ws: WorkspaceId) => wake(ws) }
      /** Runs were given back; they became runnable long ago. */
      const wakeFreed = (ws: WorkspaceId) => {
        claimMarks.lower(ws, 0)
        wake(ws)
      }
      const signals = await startSignals({ sql: pools.upkeep, log, worker: workerId, onWake: ws => worker?.wake(ws) })
      tellOthers = options.isAlone === true ? () => {} : ws => signals.wake(ws)
      const timerLoop = startTimers({ ...deps, marks: timerMarks, timed })
      timers = timerLoop
      const cancellationLoop = startCancellations(deps)
      cancellations = cancellationLoop
      const loops = [
        timerLoop,
        startHeartbeat({
          ...deps,
          wake: wakeFreed,
          sql: pools.claim,
          worker: workerId,
          note: options.selfUrl,
          everyMs: settings.leaseMs / 5,
          holds: (runId, token) => held.has(runId, token),
          onTime: (databaseMs, askedAtMs) => clock.note(databaseMs, askedAtMs),
        }),
        startReaper({ ...deps, wake: wakeFreed, leaseMs: settings.leaseMs }),
        startFanouts(deps),
        cancellationLoop,
        startStatistics(deps),
        startUpkeep({ ...deps, workspaces: () => listWorkspaces(pools.upkeep) }),
      ]
      worker = startWorker({
        log,
        capacity: settings.capacity,
        findRunnable: () => findRunnable(pools.claim),
        claim: (ws, limit) => claimRuns(claims, ws, limit),
        run: leased => runTurn(turns, leased),
      })
      stops = [...loops.map(loop => () => loop.stop()), () => signals.stop()]
    },
    async stop(drainMs, closeEdges) {
      isDraining = true
      await worker?.stopClaiming()
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<void>(resolve => {
        timer = setTimeout(resolve, drainMs)
      })
      await Promise.race([worker?.idle(), late])
      clearTimeout(timer)
      ends.close()
      await followers.close()
      await closeEdges?.()
      await Promise.all(stops.map(stop => stop()))
      if (worker !== null)
        await release(pools.claim, workerId).catch(error => log.warn({ err: error }, 'leases not handed back'))
      await closeCalls()
      await closePools(pools)
    },
  }
}
