import type { EntryType, Tags } from '@stepwell/protocol'
import type { Change } from '../core/change.ts'
import type { RunId, Token, WorkspaceId } from '../core/ids.ts'
import { signalHash, waitHash } from '../core/match.ts'
import type { Watch } from '../core/watches.ts'
import { instantArray, plainArray, textArray } from './arrays.ts'
import type { Sql } from './db.ts'
import { eventColumns, type IngestEvent, jsonOrNull, startExtra, WAKES_PER_INGEST_MAX, watchRow } from './ingest.ts'
import type { Parent } from './queue.ts'

/** One decision about one leased run, to be written. */
export interface Advance {
  runId: RunId
  token: Token
  generation: number
  turn: number
  /** The seq that the run's next entry gets. */
  nextSeq: number
  /** The run is known to be in trouble: clear that, unless this is trouble again. */
  clearTrouble: boolean
  /** Recorded executions of steps, this decision's included. */
  attempts: number
  stamps: TurnStamps
  changes: Change[]
  /** The run that invoked this one: its wait, if it waits, is resumed by the end. */
  parent: Parent | null
  /** The version of its function that its next generation gets. */
  nextVersion: number
  /** The function that follows the end of this run. */
  follow: Follow | null
  /** The children that it starts, by their ids. */
  starts: Map<string, Start>
}

/** What is known of a child besides its event. `ws`: null for the workspace of its parent. */
export interface Start {
  ws: WorkspaceId | null
  function: string
  version: number
  watches: Watch[]
  tags: Tags | null
}

/** A run to start when another has ended: its event is `head`, the event that the other started with, and `tail`. */
export interface Follow {
  id: string
  function: string
  version: number
  head: string
  tail: string
}

/** Milliseconds since the claim, by a monotonic clock; null when it did not come to that. */
export interface TurnStamps {
  readyAtMs: number
  sentMs: number | null
  firstByteMs: number | null
  endedMs: number | null
  replayMs: number | null
}

export type Advanced =
  /** Written; `requeued`: the turn is settled and the run is runnable again already. `delivered` came from outside and precedes, or (`afterwards`) follows, what this decision recorded. */
  | { status: 'ok' | 'requeued'; nowMs: number; firstSeq: number; delivered: DeliveredEntry[] }
  /** Another holder has the run, or nobody: nothing was written. */
  | { status: 'stale' }

export interface DeliveredEntry {
  seq: number
  type: EntryType
  key: string | null
  /** JSON text */
  data: string | null
}

interface Row {
  run: number
  status: 'ok' | 'requeued' | 'stale'
  nextSeq: number | null
  now: Date
  entrySeq: number | null
  entryType: EntryType
  entryKey: string | null
  entryData: string | null
}

/** Events that a batch of decisions sends. */
export interface Sent {
  /** Of the catalog from which the events were prepared. */
  version: string
  /** An own id occurs once. */
  events: IngestEvent[]
  /** Which item of the batch sends which event. Several may send the same one. */
  senders: { item: number; event: number }[]
}

const NOTHING_SENT: Sent = { version: '0', events: [], senders: [] }

/** Writes many decisions of one workspace in one statement, each fenced by its run's token. In the order of `items`. */
export async function advance(sql: Sql, ws: WorkspaceId, items: Advance[]): Promise<Advanced[]> {
  return readRows(await write(sql, ws, items, NOTHING_SENT), items.length)
}

/** The same with the events that the runs send, accepted in the same commit. Null: the catalog is old, nothing was written. */
export async function advanceAndSend(
  sql: Sql,
  ws: WorkspaceId,
  items: Advance[],
  sent: Sent,
): Promise<Advanced[] | null> {
  const rows = await write(sql, ws, items, sent)
  return rows.length === 0 ? null : readRows(rows, items.length)
}

async function write(sql: Sql, ws: WorkspaceId, items: Advance[], sent: Sent): Promise<Row[]> {
  const settles = items.map(settleOf)
  const entries = columnsOf(items, 'record')
  const waits = columnsOf(items, 'open_wait')
  const events = eventColumns(sent.events)
  return sql<Row[]>`
    select * from stepwell.advance(
      ${ws},
      ${plainArray(items.map(i => i.runId))}, ${plainArray(items.map(i => i.token))},
      ${plainArray(items.map(i => i.generation))}, ${plainArray(items.map(i => i.turn))}, ${plainArray(items.map(i => i.nextSeq))},
      ${plainArray(settles.map(s => s.step))},
      ${textArray(settles.map(s => (s.step === 'trouble' ? JSON.stringify(s.trouble) : null)))},
      ${plainArray(settles.map(s => (s.step === 'trouble' ? s.resendMs : null)))},
      ${plainArray(items.map(i => i.clearTrouble))},
      ${plainArray(settles.map(s => (s.step === 'done' ? s.state : null)))}, ${plainArray(items.map(i => i.attempts))},
      ${textArray(settles.map(s => (s.step === 'done' ? s.output : null)))},
      ${textArray(settles.map(s => (s.step === 'done' ? s.error : null)))},
      ${plainArray(settles.map(s => s.step))}, ${instantArray(items.map(i => i.stamps.readyAtMs))},
      ${plainArray(items.map(i => i.stamps.sentMs))}, ${plainArray(items.map(i => i.stamps.firstByteMs))},
      ${plainArray(items.map(i => i.stamps.endedMs))}, ${plainArray(items.map(i => i.stamps.replayMs))},
      ${plainArray(entries.map(e => e.run))}, ${plainArray(entries.map(e => e.change.type))},
      ${textArray(entries.map(e => e.change.key))}, ${plainArray(entries.map(e => e.change.saw))},
      ${plainArray(entries.map(e => e.change.settles))}, ${plainArray(entries.map(e => e.change.startedMs ?? null))},
      ${plainArray(entries.map(e => e.change.durationMs ?? null))}, ${textArray(entries.map(e => e.change.data))},
      ${plainArray(waits.map(w => w.run))}, ${textArray(waits.map(w => w.change.key))}, ${plainArray(waits.map(w => w.change.wait))},
      ${instantArray(waits.map(w => w.change.dueAtMs))},
      ${textArray(waits.map(w => awaitedOf(w.change)))}, ${plainArray(waits.map(w => hashOf(w.change)))},
      ${sent.version}, ${plainArray(sent.senders.map(s => s.item + 1))}, ${plainArray(sent.senders.map(s => s.event + 1))},
      ${events.id}, ${events.wireId}, ${events.own}, ${events.name}, ${events.ts}, ${events.data},
      ${events.keyEvent}, ${events.keyHash}, ${events.runId}, ${events.runEvent}, ${events.runFunction}, ${events.runVersion},
      ${WAKES_PER_INGEST_MAX}, ${jsonOrNull(extraOf(items, settles, sent))})`
}

type OpenWait = Extract<Change, { kind: 'open_wait' }>

/** What a wait is for, in a word. */
function awaitedOf(wait: OpenWait): string | null {
  switch (wait.wait) {
    case 'event':
      return wait.event
    case 'signal':
      return wait.signal
    case 'child':
      return wait.label
    case 'retry':
      return wait.why
    default:
      return null
  }
}

function hashOf(wait: OpenWait): string | null {
  if (wait.wait === 'event') return waitHash(wait.event, wait.match)
  return wait.wait === 'signal' ? signalHash(wait.signal) : null
}

/** What few batches bring, in the form of `p_extra`; null when this one brings nothing of it. Indexes count from 1. */
function extraOf(items: Advance[], settles: Settle[], sent: Sent): object | null {
  const extra: Extra = { parents: [], starts: [], watches: [], tags: [], said: [], published: [], next: [], follow: [] }
  for (const [index, item] of items.entries()) {
    const run = index + 1
    const settle = settles[index]
    if (settle?.step === 'done' && item.parent?.wait) {
      const { ws, runId: parent, wait } = item.parent
      extra.parents.push({ run, ws, parent, ...wait, ...resultOf(settle) })
    }
    if (settle?.step === 'next_generation') {
      const { event, unread } = settle
      extra.next.push({ run, event, unread, version: item.nextVersion })
    }
    if (item.follow !== null) extra.follow.push({ run, ...item.follow })
    for (const change of item.changes) addExtra(extra, run, change, item.starts)
  }
  const sentExtra = startExtra(sent.events)
  const isEmpty = sentExtra === null && Object.values(extra).every(rows => rows.length === 0)
  return isEmpty ? null : { ...extra, sent: sentExtra }
}

type Extra = Record<'parents' | 'starts' | 'watches' | 'tags' | 'said' | 'published' | 'next' | 'follow', object[]>

function addExtra(extra: Extra, run: number, change: Change, starts: Advance['starts']): void {
  if (change.kind === 'want_undo') extra.said.push({ run, undo: true })
  else if (change.kind === 'set_status') extra.said.push({ run, status: change.status })
  else if (change.kind === 'set_tags') extra.said.push({ run, tags: change.tags })
  else if (change.kind === 'publish') extra.published.push({ run, channel: change.channel, data: change.data })
  else if (change.kind === 'start_run') {
    const { runId: id, event, key, isCancelledWith } = change
    const start = starts.get(id)
    if (start === undefined) throw new Error(`Nothing is known of the child ${id}.`)
    const { ws, function: name, version, watches, tags } = start
    extra.starts.push({ run, ws, id, function: name, version, event, key, cancelled_with: isCancelledWith })
    for (const watch of watches) extra.watches.push({ ...watchRow(run, id, watch), ws })
    if (tags !== null) extra.tags.push({ run, ws, id, tags })
  }
}

/** What the end of a run is to the run that waits for it. */
function resultOf(settle: Extract<Settle, { step: 'done' }>): { type: EntryType; data: string | null } {
  if (settle.state === 'completed') return { type: 'child_completed', data: settle.output }
  if (settle.state === 'failed') return { type: 'child_failed', data: `{"error":${settle.error ?? 'null'}}` }
  const { message, ...error } = JSON.parse(settle.error ?? '{}') as { message?: string }
  return {
    type: 'child_failed',
    data: JSON.stringify({ error: { ...error, message: `The child was cancelled: ${message}` } }),
  }
}

type Settle = Extract<Change, { kind: 'settle' }>

function settleOf(item: Advance): Extract<Change, { kind: 'settle' }> {
  const last = item.changes.at(-1)
  if (last?.kind !== 'settle') throw new Error('A decision ends with a settle.')
  return last
}

/** The changes of one kind with the index, from 1, of the run that each belongs to. */
function columnsOf<Kind extends Change['kind']>(
  items: Advance[],
  kind: Kind,
): { run: number; change: Extract<Change, { kind: Kind }> }[] {
  const columns: { run: number; change: Extract<Change, { kind: Kind }> }[] = []
  // The comparison narrows the union, which TypeScript does not see for a type parameter.
  for (const [index, item] of items.entries())
    for (const change of item.changes)
      if (change.kind === kind) columns.push({ run: index + 1, change: change as Extract<Change, { kind: Kind }> })
  return columns
}

function readRows(rows: Row[], count: number): Advanced[] {
  const results: Advanced[] = Array.from({ length: count }, () => ({ status: 'stale' }))
  const delivered = new Map<number, DeliveredEntry[]>()
  for (const row of rows) {
    if (row.entrySeq !== null) {
      const entry = { seq: row.entrySeq, type: row.entryType, key: row.entryKey, data: row.entryData }
      const list = delivered.get(row.run)
      if (list === undefined) delivered.set(row.run, [entry])
      else list.push(entry)
    } else if (row.status !== 'stale' && row.nextSeq !== null) {
      const entries = delivered.get(row.run) ?? []
      results[row.run - 1] = { status: row.status, nowMs: row.now.getTime(), firstSeq: row.nextSeq, delivered: entries }
    }
  }
  return results
}
