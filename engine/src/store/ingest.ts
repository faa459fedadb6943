import type { Tags } from '@stepwell/protocol'
import type { Token, WorkerId, WorkspaceId } from '../core/ids.ts'
import type { Watch } from '../core/watches.ts'
import { plainArray, textArray } from './arrays.ts'
import type { Sql } from './db.ts'

/** One event to accept, with what it starts and the keys by which waits find it. */
export interface IngestEvent {
  /** uuid */
  id: string
  wireId: string
  /** The sender gave the id: remember it, and refuse it the second time. */
  isOwnId: boolean
  name: string
  ts: string
  /** JSON text */
  data: string
  hashes: string[]
  runs: StartingRun[]
}

/** A run that an event starts. */
export interface StartingRun {
  id: string
  function: string
  /** Of the function. */
  version: number
  watches: Watch[]
  tags: Tags | null
}

export type Ingested =
  /** The caller's catalog is old: reload it and compute again. Nothing was written. */
  | { stale: true }
  /** Index of each event whose own id was accepted before -> the runs that it started then (uuids). */
  | {
      stale: false
      known: Map<number, string[]>
      /** The database's clock, Unix milliseconds. */
      nowMs: number
    }

/** The first `count` of the runs that a batch of events starts are leased at once. */
export interface FreshLease {
  worker: WorkerId
  token: Token
  count: number
}

/** More waits than this for one batch of events are woken by a loop instead, in batches of their own. */
export const WAKES_PER_INGEST_MAX = 1_000

/** Accepts events in one statement and one commit: stored, runs started, waits woken, or nothing of it. */
export async function ingest(
  sql: Sql,
  ws: WorkspaceId,
  version: string,
  events: IngestEvent[],
  lease: FreshLease | null = null,
): Promise<Ingested> {
  const columns = eventColumns(events)
  const [row] = await sql<{ stale: boolean; knownEvent: string | null; knownRuns: string | null; nowMs: number }[]>`
    select stale, array_to_json(known_event)::text as known_event, array_to_json(known_runs)::text as known_runs, now_ms
    from stepwell.ingest(
      ${ws}, ${version},
      ${columns.id}, ${columns.wireId}, ${columns.own}, ${columns.name}, ${columns.ts}, ${columns.data},
      ${columns.keyEvent}, ${columns.keyHash}, ${columns.runId}, ${columns.runEvent}, ${columns.runFunction}, ${columns.runVersion},
      ${WAKES_PER_INGEST_MAX}, ${lease?.worker ?? null}, ${lease?.token ?? null}, ${lease?.count ?? 0}, ${jsonOrNull(startExtra(events))})`
  if (row === undefined || row.stale) return { stale: true }
  const known = new Map<number, string[]>()
  if (row.knownEvent !== null && row.knownRuns !== null) {
    const runTexts = JSON.parse(row.knownRuns) as string[]
    for (const [n, event] of (JSON.parse(row.knownEvent) as number[]).entries())
      known.set(
        event - 1,
        (runTexts[n] ?? '').split(',').filter(id => id !== ''),
      )
  }
  return { stale: false, known, nowMs: row.nowMs }
}

/** An event as JSON text, as `stepwell.event_json` writes it. */
export function eventJson({ wireId, name, data, ts }: IngestEvent): string {
  return `{"id":${JSON.stringify(wireId)},"name":${JSON.stringify(name)},"data":${data},"ts":"${ts}"}`
}

/** Events, their keys and the runs they start as array literals; indexes into the events count from 1. */
export function eventColumns(events: IngestEvent[]) {
  const keys = events.flatMap((event, index) => event.hashes.map(hash => ({ event: index + 1, hash })))
  const runs = events.flatMap((event, index) => event.runs.map(run => ({ event: index + 1, ...run })))
  return {
    id: plainArray(events.map(e => e.id)),
    wireId: textArray(events.map(e => e.wireId)),
    own: plainArray(events.map(e => e.isOwnId)),
    name: textArray(events.map(e => e.name)),
    ts: textArray(events.map(e => e.ts)),
    data: textArray(events.map(e => e.data)),
    keyEvent: plainArray(keys.map(k => k.event)),
    keyHash: plainArray(keys.map(k => k.hash)),
    runId: plainArray(runs.map(r => r.id)),
    runEvent: plainArray(runs.map(r => r.event)),
    runFunction: textArray(runs.map(r => r.function)),
    runVersion: plainArray(runs.map(r => r.version)),
  }
}

/** What few runs have at their start, in the form of `p_extra`; null when none has it. Indexes count from 1. */
export function startExtra(events: IngestEvent[]): { watches: object[]; tags: object[] } | null {
  const watches: object[] = []
  const tags: object[] = []
  for (const [index, event] of events.entries())
    for (const run of event.runs) {
      for (const watch of run.watches) watches.push(watchRow(index + 1, run.id, watch))
      if (run.tags !== null) tags.push({ run: index + 1, id: run.id, tags: run.tags })
    }
  return watches.length === 0 && tags.length === 0 ? null : { watches, tags }
}

/** A row of `watches` in a `p_extra`. */
export function watchRow(run: number, id: string, { key, kind, dueMs, event, hash }: Watch): object {
  return { run, id, key, kind, due_ms: dueMs, event, hash }
}

/** JSON text for an argument of type json. */
export function jsonOrNull(value: object | null): string | null {
  return value === null ? null : JSON.stringify(value)
}

/** Wakes one batch of the waits of one large fan-out. */
export async function walkFanouts(sql: Sql, ws: WorkspaceId, limit: number): Promise<{ woken: number; more: boolean }> {
  const [row] = await sql<{ woken: number; more: boolean }[]>`select * from stepwell.walk_fanouts(${ws}, ${limit})`
  return row ?? { woken: 0, more: false }
}

/** Forgets senders' event ids that are older than a day. Returns how many. */
export async function forgetEventIds(sql: Sql, ws: WorkspaceId, limit: number): Promise<number> {
  const result = await sql`
    delete from stepwell.event_ids
    where ws = ${ws} and own_id = any(array(
      select own_id from stepwell.event_ids
      where ws = ${ws} and at < now() - interval '24 hours'
      order by at
      limit ${limit}
      for update skip locked))`
  return result.count
}

/** Workspaces with fan-outs to walk. */
export async function findFanouts(sql: Sql): Promise<WorkspaceId[]> {
  const rows = await sql<{ ws: WorkspaceId }[]>`select distinct ws from stepwell.fanouts`
  return rows.map(row => row.ws)
}
