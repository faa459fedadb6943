/*
 * What was decided about runs goes to the database in groups: one statement and one commit for all that came while the
 * previous one was under way. There are two lanes, each with its own flush in flight: results of steps whose turn goes on,
 * which are most of all writes and need little, and everything else. A run has one decision under way at a time, so what is
 * written about it keeps its order.
 */
import { byteLength } from '../core/byte-length.ts'
import { newestVersion } from '../core/catalog.ts'
import type { Change, RecordChange } from '../core/change.ts'
import type { Happening } from '../core/happening.ts'
import type { WorkspaceId } from '../core/ids.ts'
import { firstDueMs } from '../core/watches.ts'
import { type Advance, type Advanced, advance, advanceAndSend } from '../store/advance.ts'
import { isDatabaseAway, isSqlState, type Sql } from '../store/db.ts'
import { type Recorded, type Recording, record } from '../store/record.ts'
import type { Catalogs } from './catalogs.ts'
import { createBuffers, createGroupCommit } from './group-commit.ts'
import type { HeldRun } from './held-runs.ts'
import { followOf, startsOf } from './other-runs.ts'
import { prepareEvents } from './send-events.ts'

export interface WriteAdvanceDeps {
  sql: Sql
  catalogs: Catalogs
  newUuid: () => string
  /** Runs of the workspace may have become runnable. */
  wake: (ws: WorkspaceId) => void
  /** A wait of the workspace is due then, by the database's clock. */
  wakeAt: (ws: WorkspaceId, dueAtMs: number) => void
}

/** Writes what was decided about a run, or nothing of it; resolves after the commit. */
export type WriteAdvance = (run: HeldRun, happening: Happening, changes: Change[]) => Promise<Advanced>

const BATCH_RUNS_MAX = 500
const BATCH_BYTES_MAX = 4 * 1024 * 1024
const DEADLOCK_RETRIES_MAX = 3
const STALE_RETRIES_MAX = 10

/** Entries that stand for one execution of a step. */
const EXECUTIONS: ReadonlySet<string> = new Set(['step_completed', 'step_failed', 'step_retrying'])

interface Item {
  run: HeldRun
  advance: Advance
  bytes: number
}

/** Builds both lanes: one group-commit buffer of each per workspace. */
export function createWriteAdvance(deps: WriteAdvanceDeps): WriteAdvance {
  const limits = { maxItems: BATCH_RUNS_MAX, maxWeight: BATCH_BYTES_MAX, isHopeless: isDatabaseAway }
  const advances = createBuffers((ws: WorkspaceId) =>
    createGroupCommit<Item, Advanced>({
      ...limits,
      weigh: item => item.bytes,
      flush: items => write(deps, ws, items),
    }),
  )
  const recordings = createBuffers((ws: WorkspaceId) =>
    createGroupCommit<Recording, Recorded>({
      ...limits,
      weigh: item => bytesOf(item.entries),
      flush: items => record(deps.sql, ws, items),
    }),
  )

  return async function writeAdvance(run, happening, changes) {
    const recording = recordingOf(run, changes)
    if (recording !== null) {
      const recorded = await recordings(run.ws).add(recording)
      if (recorded.status === 'ok')
        return { status: 'ok', nowMs: recorded.nowMs, firstSeq: recording.nextSeq, delivered: [] }
    }
    return advances(run.ws).add(itemOf(deps, run, happening, changes))
  }
}

/** Entries only, and the turn goes on; null when there is more to write. */
function recordingOf(run: HeldRun, changes: Change[]): Recording | null {
  if (run.snapshot.trouble !== null) return null
  const entries: RecordChange[] = []
  for (const change of changes) {
    if (change.kind === 'record') entries.push(change)
    else if (change.kind !== 'settle' || change.step !== 'running') return null
  }
  const { runId, token, turn, nextSeq } = run
  return { runId, token, generation: run.snapshot.generation, turn, nextSeq, entries }
}

function bytesOf(entries: RecordChange[]): number {
  return entries.reduce((sum, entry) => sum + byteLength(entry.data), 0)
}

function publishedBytesOf(changes: Change[]): number {
  return changes.reduce((sum, change) => sum + (change.kind === 'publish' ? byteLength(change.data) : 0), 0)
}

function itemOf(deps: WriteAdvanceDeps, run: HeldRun, happening: Happening, changes: Change[]): Item {
  const entries = changes.filter(change => change.kind === 'record')
  const executions = entries.filter(({ type }) => EXECUTIONS.has(type)).length
  const isEnd = happening.kind !== 'report' || happening.isResponse
  const settle = changes.at(-1)
  return {
    run,
    bytes: bytesOf(entries) + publishedBytesOf(changes),
    advance: {
      runId: run.runId,
      token: run.token,
      generation: run.snapshot.generation,
      turn: run.turn,
      nextSeq: run.nextSeq,
      // A sign of life is no progress: the app may refuse the turn all the same.
      clearTrouble: run.snapshot.trouble !== null && isProgress(changes),
      attempts: run.snapshot.attempts + executions,
      stamps: {
        readyAtMs: run.readyAtMs,
        sentMs: run.sentMs,
        firstByteMs: run.firstByteMs,
        endedMs: isEnd ? performance.now() - run.claimedAtMonotonicMs : null,
        replayMs: run.replayMs,
      },
      changes,
      parent: run.parent,
      nextVersion: newestVersion(run.catalog, run.function),
      follow: followOf(run, settle?.kind === 'settle' ? settle : undefined, deps.newUuid),
      starts: startsOf(run, changes),
    },
  }
}

/** Whether the app does something with the run again: it records something, or ends its turn. */
export function isProgress(changes: readonly Change[]): boolean {
  return changes.some(change => change.kind !== 'settle' || change.step !== 'running')
}

/** One statement for all, with the events that they send. Nothing is half-written. */
async function write(deps: WriteAdvanceDeps, ws: WorkspaceId, items: Item[]): Promise<Advanced[]> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const sends = items.some(item => item.advance.changes.some(change => change.kind === 'send_events'))
      const advances = items.map(item => item.advance)
      const advanced = sends ? await writeWithEvents(deps, ws, items) : await advance(deps.sql, ws, advances)
      wakeForTimeouts(deps, items)
      return advanced
    } catch (error) {
      // Postgres has undone one of two that waited for each other; it is the same batch the next time.
      if (!isSqlState(error, 'deadlock') || attempt === DEADLOCK_RETRIES_MAX) throw error
    }
  }
}

/** Runs have been started that may take only so long. */
function wakeForTimeouts(deps: WriteAdvanceDeps, items: Item[]): void {
  for (const { run, advance } of items)
    for (const { ws, watches } of advance.starts.values()) {
      const dueMs = firstDueMs(watches)
      if (dueMs !== null) deps.wakeAt(ws ?? run.ws, run.snapshot.nowMs + dueMs)
    }
}

async function writeWithEvents(deps: WriteAdvanceDeps, ws: WorkspaceId, items: Item[]): Promise<Advanced[]> {
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
    const dueMs = firstDueMs(events.flatMap(event => event.runs.flatMap(run => run.watches)))
    if (dueMs !== null) deps.wakeAt(ws, nowMs + dueMs)
    return written
  }
  throw new Error(`The catalog of workspace ${ws} changed ${STALE_RETRIES_MAX} times while events were sent.`)
}

function sentEvents(item: Item) {
  return item.advance.changes.flatMap(change => (change.kind === 'send_events' ? change.events : []))
}
