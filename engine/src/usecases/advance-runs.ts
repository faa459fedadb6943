/*
 * The one door: everything that moves a leased run comes through here. Something happened to it; `decide` says what that
 * means; the store writes it in one transaction with what happened to other runs meanwhile, fenced by each run's token.
 * Only then the run's snapshot in memory moves on.
 *
 * When the database does not say whether it wrote, the run is dropped: memory may be behind. Its lease is given back by
 * the reconciling loop, and the next claim reads what is true.
 */

import { byteLength } from '../core/byte-length.ts'
import type { Change, RecordChange, SettleChange } from '../core/change.ts'
import { decide } from '../core/decide.ts'
import { EngineError } from '../core/errors.ts'
import type { Happening } from '../core/happening.ts'
import type { WorkspaceId } from '../core/ids.ts'
import { applyEntry } from '../core/snapshot.ts'
import type { Log } from '../log.ts'
import { type Advance, type Advanced, advance, advanceAndSend, type DeliveredEntry } from '../store/advance.ts'
import { isDatabaseAway, isSqlState, type Sql } from '../store/db.ts'
import type { Catalogs } from './catalogs.ts'
import type { Shapes } from './ensure-shape.ts'
import { createBuffers, createGroupCommit, type GroupCommit } from './group-commit.ts'
import { type HeldRun, type HeldRuns, nowMsOf } from './held-runs.ts'
import { prepareEvents } from './send-events.ts'

export interface AdvanceDeps {
  sql: Sql
  catalogs: Catalogs
  shapes: Shapes
  held: HeldRuns
  newUuid: () => string
  dice: () => number
  log: Log
  /** Runs of the workspace may have become runnable. */
  wake: (ws: WorkspaceId) => void
  /** A wait of the workspace is due then, by the database's clock. */
  wakeAt: (ws: WorkspaceId, dueAtMs: number) => void
  /** Told after the commit that ended a turn. Must be quick and must not throw. */
  onSettled?: ((run: HeldRun, settle: SettleChange) => void) | undefined
}

/** What became of it. `recorded` and `delivered` are the run's new journal entries, each with its seq. */
export type AdvanceResult =
  | { status: 'ok'; isSettled: boolean; nowMs: number; entries: NewEntry[] }
  | { status: 'stale' }
  /** The database refused this report; nothing of it was written, and the turn is over. */
  | { status: 'refused'; message: string }

export interface NewEntry {
  seq: number
  type: RecordChange['type']
  key: string
  saw: number | null
  data: string | null
}

export type AdvanceRun = (run: HeldRun, happening: Happening) => Promise<AdvanceResult>

const BATCH_RUNS_MAX = 500
const BATCH_BYTES_MAX = 4 * 1024 * 1024
const DEADLOCK_RETRIES_MAX = 3
const STALE_RETRIES_MAX = 10

interface Item {
  run: HeldRun
  advance: Advance
  bytes: number
}

/** Builds the door: one group-commit buffer per workspace. */
export function createAdvanceRun(deps: AdvanceDeps): AdvanceRun {
  const bufferOf = createBuffers((ws: WorkspaceId) =>
    createGroupCommit<Item, Advanced>({
      maxItems: BATCH_RUNS_MAX,
      maxWeight: BATCH_BYTES_MAX,
      weigh: item => item.bytes,
      flush: items => write(deps, ws, items),
      isHopeless: isDatabaseAway,
    }),
  )

  return async function advanceRun(run, happening) {
    if (run.isOver) return { status: 'stale' }
    run.snapshot.nowMs = nowMsOf(run)
    const changes = decide(run.snapshot, happening, deps.dice)
    try {
      await ensureShapes(deps, run, changes)
      const advanced = await bufferOf(run.ws).add(itemOf(run, happening, changes))
      return applyToMemory(deps, run, changes, advanced)
    } catch (error) {
      if (isDatabaseAway(error) || happening.kind !== 'report') return giveUp(deps, run, error)
      return refuse(deps, bufferOf(run.ws), run, error)
    }
  }
}

/** The database does not say whether it wrote. */
function giveUp(deps: AdvanceDeps, run: HeldRun, cause: unknown): never {
  deps.held.drop(run)
  const message = 'The database did not take the report. The turn is given up and sent again.'
  throw new EngineError('unavailable', 503, message, {}, { cause })
}

/** The database refused what this one report holds: the run says so and is sent again later, and no other run suffers. */
async function refuse(
  deps: AdvanceDeps,
  buffer: GroupCommit<Item, Advanced>,
  run: HeldRun,
  cause: unknown,
): Promise<AdvanceResult> {
  deps.log.error({ runId: run.wireId, err: cause }, 'the database refused a report')
  const message = 'The app reported something that cannot be stored. The log of the engine says what.'
  const happening = { kind: 'no_answer', code: 'app_body_invalid', message, dice: deps.dice() } as const
  const changes = decide(run.snapshot, happening, deps.dice)
  try {
    const advanced = await buffer.add(itemOf(run, happening, changes))
    applyToMemory(deps, run, changes, advanced)
    return { status: 'refused', message }
  } catch (error) {
    return giveUp(deps, run, error)
  }
}

async function ensureShapes(deps: AdvanceDeps, run: HeldRun, changes: Change[]): Promise<void> {
  for (const change of changes) {
    if (change.kind !== 'open_wait' || change.wait !== 'event') continue
    if (!deps.shapes.isComplete(run.ws, change.event, change.match, run.startedAtMs))
      await deps.shapes.ensure(run.ws, change.event, change.match, run.startedAtMs)
  }
}

function itemOf(run: HeldRun, happening: Happening, changes: Change[]): Item {
  let bytes = 0
  let executions = 0
  for (const change of changes) {
    if (change.kind !== 'record') continue
    bytes += byteLength(change.data)
    if (change.type === 'step_completed' || change.type === 'step_failed' || change.type === 'step_retrying')
      executions += 1
  }
  const isEnd = happening.kind !== 'report' || happening.isResponse
  return {
    run,
    bytes,
    advance: {
      runId: run.runId,
      token: run.token,
      generation: run.snapshot.generation,
      turn: run.turn,
      nextSeq: run.nextSeq,
      clearTrouble: run.snapshot.trouble !== null,
      attempts: run.snapshot.attempts + executions,
      stamps: {
        readyAtMs: run.readyAtMs,
        sentMs: run.sentMs,
        firstByteMs: run.firstByteMs,
        endedMs: isEnd ? performance.now() - run.claimedAtMonotonicMs : null,
        replayMs: run.replayMs,
      },
      changes,
    },
  }
}

/** One statement for all, with the events that they send. Nothing is half-written. */
async function write(deps: AdvanceDeps, ws: WorkspaceId, items: Item[]): Promise<Advanced[]> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const sends = items.some(item => item.advance.changes.some(change => change.kind === 'send_events'))
      return sends
        ? await writeWithEvents(deps, ws, items)
        : await advance(
            deps.sql,
            ws,
            items.map(item => item.advance),
          )
    } catch (error) {
      // Postgres has undone one of two that waited for each other; it is the same batch the next time.
      if (!isSqlState(error, 'deadlock') || attempt === DEADLOCK_RETRIES_MAX) throw error
    }
  }
}

async function writeWithEvents(deps: AdvanceDeps, ws: WorkspaceId, items: Item[]): Promise<Advanced[]> {
  const sent = items.flatMap((item, index) => sentEvents(item).map(event => ({ item: index, event })))
  const texts = sent.map(({ event }) => ({ event, data: JSON.stringify(event.data ?? {}) }))
  const nowMs = items[0]?.run.snapshot.nowMs ?? 0
  for (let attempt = 1; attempt <= STALE_RETRIES_MAX; attempt += 1) {
    const catalog = attempt === 1 ? await deps.catalogs.get(ws) : await deps.catalogs.reload(ws)
    const { events, positions } = prepareEvents({ newUuid: deps.newUuid, nowMs: () => nowMs }, catalog, texts)
    const senders = sent.map(({ item }, index) => ({ item, event: positions[index] as number }))
    const written = await advanceAndSend(
      deps.sql,
      ws,
      items.map(item => item.advance),
      { version: catalog.version, events, senders },
    )
    if (written === null) continue
    deps.wake(ws)
    return written
  }
  throw new Error(`The catalog of workspace ${ws} changed ${STALE_RETRIES_MAX} times while events were sent.`)
}

function sentEvents(item: Item) {
  return item.advance.changes.flatMap(change => (change.kind === 'send_events' ? change.events : []))
}

/** After the commit: the snapshot moves on, and whoever waits for the run or its timers is told. */
function applyToMemory(deps: AdvanceDeps, run: HeldRun, changes: Change[], advanced: Advanced): AdvanceResult {
  if (advanced.status === 'stale') {
    deps.held.drop(run)
    return { status: 'stale' }
  }
  const recorded = changes.filter(change => change.kind === 'record')
  const entries = orderEntries(advanced.firstSeq, recorded, advanced.delivered)
  for (const entry of entries)
    applyEntry(run.snapshot, { type: entry.type, key: entry.key, dataBytes: byteLength(entry.data) })
  run.nextSeq += entries.length
  const settle = changes.at(-1)
  const isSettled = settle?.kind === 'settle' && settle.step !== 'running'
  if (settle?.kind === 'settle' && settle.step === 'trouble') deps.wakeAt(run.ws, run.snapshot.nowMs + settle.resendMs)
  else run.snapshot.trouble = null
  for (const change of changes)
    if (change.kind === 'open_wait' && change.dueAtMs !== null) deps.wakeAt(run.ws, change.dueAtMs)
  if (isSettled) {
    deps.held.drop(run)
    deps.onSettled?.(run, settle)
  }
  if (advanced.status === 'requeued') deps.wake(run.ws)
  return { status: 'ok', isSettled, nowMs: advanced.nowMs, entries }
}

/** Journal order: what had arrived, what was recorded, and what the look back of a new wait found. */
function orderEntries(firstSeq: number, recorded: RecordChange[], delivered: DeliveredEntry[]): NewEntry[] {
  const mine = recorded.map(({ type, key, saw, data }, index) => ({ seq: firstSeq + index, type, key, saw, data }))
  const others = delivered.map(entry => ({ ...entry, saw: null }))
  return [...others, ...mine].sort((a, b) => a.seq - b.seq)
}
