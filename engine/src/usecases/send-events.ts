/*
 * Accepts events. Requests that arrive while a commit is under way share the next one; each is answered after the
 * commit that holds it. What an event starts and which waits it may satisfy is computed here from the workspace's
 * catalog; the statement refuses when that is older than the database, and then it is computed again.
 */
import { type Event, encodeId, type NewEvent, type SendEventsAnswer } from '@stepwell/protocol'
import { type Catalog, newestVersion } from '../core/catalog.ts'
import type { RunId, WorkerId, WorkspaceId } from '../core/ids.ts'
import { cancelEventHash, eventHash } from '../core/match.ts'
import { firstDueMs, tagsOf, watchesOf } from '../core/watches.ts'
import type { Sql } from '../store/db.ts'
import { isDatabaseAway } from '../store/db.ts'
import { eventJson, type IngestEvent, type Ingested, ingest, type StartingRun } from '../store/ingest.ts'
import type { Claimed } from '../store/queue.ts'
import type { Catalogs } from './catalogs.ts'
import { hold, type Leased, newToken } from './claim-runs.ts'
import { createBuffers, createGroupCommit } from './group-commit.ts'
import type { HeldRuns } from './held-runs.ts'

export interface SendEventsDeps {
  sql: Sql
  catalogs: Catalogs
  newUuid: () => string
  /** The database's clock, Unix milliseconds. */
  nowMs: () => number
  /** Called after a commit that may have made runs runnable. */
  wake: (ws: WorkspaceId) => void
  /** A time-out of a run of the workspace is due then, by the database's clock. */
  wakeAt: (ws: WorkspaceId, dueAtMs: number) => void
  worker: WorkerId
  held: HeldRuns
  places: FreshPlaces
}

/** Room for runs that start here at once, without going through the queue. */
export interface FreshPlaces {
  /** Keeps up to `wanted` places free; none while older runs may be waiting for them. Returns how many. */
  reserve(wanted: number): number
  /** Gives reserved places up, and starts what has been leased for them. */
  fill(reserved: number, leased: Leased[]): void
}

export type SendEvents = (ws: WorkspaceId, events: NewEvent[]) => Promise<SendEventsAnswer>

const BATCH_REQUESTS_MAX = 500
const BATCH_BYTES_MAX = 4 * 1024 * 1024
/** A catalog can change while we compute; that often in a row it does not. */
const STALE_RETRIES_MAX = 10

interface Request {
  events: { event: NewEvent; data: string }[]
  bytes: number
}

/** `(ws, events) -> ids and runs`, resolved after the commit. Events are valid by the schema of the edge. */
export function createSendEvents(deps: SendEventsDeps): SendEvents {
  const bufferOf = createBuffers((ws: WorkspaceId) =>
    createGroupCommit<Request, SendEventsAnswer>({
      maxItems: BATCH_REQUESTS_MAX,
      maxWeight: BATCH_BYTES_MAX,
      weigh: request => request.bytes,
      flush: requests => flush(deps, ws, requests),
      isHopeless: isDatabaseAway,
    }),
  )

  return async function sendEvents(ws, events) {
    const texts = events.map(event => ({ event, data: JSON.stringify(event.data ?? {}) }))
    const bytes = texts.reduce((sum, { data }) => sum + data.length, 0)
    return bufferOf(ws).add({ events: texts, bytes })
  }
}

async function flush(deps: SendEventsDeps, ws: WorkspaceId, requests: Request[]): Promise<SendEventsAnswer[]> {
  const texts = requests.flatMap(request => request.events)
  for (let attempt = 1; attempt <= STALE_RETRIES_MAX; attempt += 1) {
    const catalog = attempt === 1 ? await deps.catalogs.get(ws) : await deps.catalogs.reload(ws)
    const { events, positions } = prepareEvents(deps, catalog, texts)
    const result = await ingestAndStart(deps, catalog, events)
    if (result.stale) continue
    const answers = events.map((event, index) => ({
      id: event.wireId,
      runs: (result.known.get(index) ?? event.runs.map(run => run.id)).map(id => encodeId('run', id)),
    }))
    // A request's events are where its texts are; a repeated id points to its first occurrence.
    let next = 0
    return requests.map(request => ({
      events: request.events.map(() => answers[positions[next++] as number] as SendEventsAnswer['events'][number]),
    }))
  }
  throw new Error(`The catalog of workspace ${ws} changed ${STALE_RETRIES_MAX} times while events were accepted.`)
}

/** Accepts events. As many of the runs that they start as there is room for here are leased at once and started. */
async function ingestAndStart(deps: SendEventsDeps, catalog: Catalog, events: IngestEvent[]): Promise<Ingested> {
  const { ws } = catalog
  const runs = events.flatMap((event, index) => event.runs.map(run => ({ ...run, index, event })))
  const count = deps.places.reserve(runs.length)
  const token = newToken()
  let leased: Leased[] = []
  try {
    const result = await ingest(deps.sql, ws, catalog.version, events, { worker: deps.worker, token, count })
    if (result.stale) return result
    const dueMs = firstDueMs(runs.flatMap(run => run.watches))
    if (dueMs !== null) deps.wakeAt(ws, result.nowMs + dueMs)
    const at = new Date(result.nowMs).toISOString()
    leased = runs
      .slice(0, count)
      .filter(run => !result.known.has(run.index))
      .map(run => hold(deps.held, catalog, freshClaim(run, catalog.version, result.nowMs, at), token))
    if (leased.length < runs.length || events.some(event => event.hashes.length > 0)) deps.wake(ws)
    return result
  } finally {
    deps.places.fill(count, leased)
  }
}

/** A run that has just been started, as a claim would read it. */
function freshClaim(run: StartingRun & { event: IngestEvent }, version: string, nowMs: number, at: string): Claimed {
  return {
    // It was made for this run by prepareEvents.
    runId: run.id as RunId,
    function: run.function,
    functionVersion: run.version,
    generation: 1,
    turn: 1,
    trouble: null,
    parent: null,
    createdAtMs: Math.floor(nowMs),
    wantsUndo: false,
    status: null,
    tags: run.tags === null ? null : JSON.stringify(run.tags),
    version,
    nowMs,
    readyAtMs: nowMs,
    journal: [{ seq: 1, turn: 1, at, type: 'run_started', key: null, saw: null, data: eventJson(run.event) }],
  }
}

/** A run that an event starts, with what its function says about all of its runs. */
export function startingRun(catalog: Catalog, name: string, id: string, event: Event): StartingRun {
  const description = catalog.functions.get(name)
  const version = newestVersion(catalog, name)
  if (description === undefined) return { id, function: name, version, watches: [], tags: null }
  return { id, function: name, version, watches: watchesOf(description, event), tags: tagsOf(description, event) }
}

/** The rows for a batch. An own id that occurs twice in the batch is one event; `positions` says which. */
export function prepareEvents(
  deps: Pick<SendEventsDeps, 'newUuid' | 'nowMs'>,
  catalog: Catalog,
  texts: { event: NewEvent; data: string }[],
): { events: IngestEvent[]; positions: number[] } {
  const events: IngestEvent[] = []
  const byOwnId = new Map<string, number>()
  const nowIso = new Date(deps.nowMs()).toISOString()
  const positions = texts.map(({ event, data }) => {
    const earlier = event.id === undefined ? undefined : byOwnId.get(event.id)
    if (earlier !== undefined) return earlier
    const id = deps.newUuid()
    const whole = {
      id: event.id ?? encodeId('evt', id),
      name: event.name,
      data: event.data ?? {},
      ts: event.ts ?? nowIso,
    }
    const hashes = new Set<string>()
    for (const paths of catalog.shapes.get(event.name) ?? []) {
      const hash = eventHash(whole, paths)
      if (hash !== null) hashes.add(hash)
    }
    for (const paths of catalog.cancelShapes.get(event.name) ?? []) {
      const hash = cancelEventHash(whole, paths)
      if (hash !== null) hashes.add(hash)
    }
    const runs = (catalog.startedBy.get(event.name) ?? []).map(name =>
      startingRun(catalog, name, deps.newUuid(), whole),
    )
    if (event.id !== undefined) byOwnId.set(event.id, events.length)
    return (
      events.push({
        id,
        wireId: whole.id,
        isOwnId: event.id !== undefined,
        name: whole.name,
        ts: whole.ts,
        data,
        hashes: [...hashes],
        runs,
      }) - 1
    )
  })
  return { events, positions }
}
