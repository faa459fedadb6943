/**
 * For tests of the store: a database per file, a workspace per test, and builders with defaults. Whatever a test did,
 * the invariants hold after it.
 *
 *     const store = useStore()
 *     test('…', async () => {
 *       const run = await startRun(store)
 *       const [leased] = await lease(store)
 *       await settle(store, [anAdvance(leased, [sleep('nap', store.nowMs + 50)], 'waiting')])
 */
import { randomBytes } from 'node:crypto'
import { createUuid7, type Json, type Match } from '@stepwell/protocol'
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest'
import type { Change, RecordChange, SettleChange } from '../../src/core/change.ts'
import type { RunId, Token, WorkerId, WorkspaceId } from '../../src/core/ids.ts'
import { eventHash } from '../../src/core/match.ts'
import { type Advance, type Advanced, advance } from '../../src/store/advance.ts'
import { type Connection, open, type Sql } from '../../src/store/db.ts'
import { type IngestEvent, type Ingested, ingest } from '../../src/store/ingest.ts'
import { type Claimed, claim } from '../../src/store/queue.ts'
import { createTestDatabase, type TestDatabase } from '../database.ts'

export const newUuid = createUuid7({ now: Date.now, random: randomBytes })
export const VERSION = '1'

export interface Store {
  sql: Sql
  /** New for every test. */
  ws: WorkspaceId
  worker: WorkerId
  /** For what must not wait behind other statements. */
  connection: Connection
}

/** Opens the file's database and holds every test to the invariants. Call once at the top of a test file. */
export function useStore(): Store {
  let database: TestDatabase
  const store = { ws: 0, worker: newUuid() } as Store

  beforeAll(async () => {
    database = await createTestDatabase()
    store.connection = database.connection
    store.sql = open(database.connection, 4)
  })

  beforeEach(async () => {
    const [row] = await store.sql<{ ws: WorkspaceId }[]>`
      insert into stepwell.workspaces (ws, name, version)
      select coalesce(max(ws), 0) + 1, 'test-' || count(*), ${VERSION} from stepwell.workspaces
      returning ws`
    if (row !== undefined) store.ws = row.ws
  })

  afterEach(async () => {
    const broken = await store.sql`select * from stepwell.check_invariants() where ws = ${store.ws} limit 20`
    expect([...broken]).toEqual([])
  })

  afterAll(async () => {
    await store.sql.end({ timeout: 1 })
    await database.drop()
  })

  return store
}

/** An event as the engine prepares it. `shapes` are the sets of paths in use for its name; `starts` are functions. */
export function anEvent(
  given: { name?: string; id?: string; data?: Json; ts?: string; shapes?: string[][]; starts?: string[] } = {},
): IngestEvent {
  const { name = 'thing', data = {}, shapes = [[]], starts = [] } = given
  const id = newUuid()
  const whole = { id: given.id ?? `evt-${id}`, name, data, ts: given.ts ?? '2026-03-01T12:00:00.000Z' }
  return {
    id,
    wireId: whole.id,
    isOwnId: given.id !== undefined,
    name,
    ts: whole.ts,
    data: JSON.stringify(data),
    hashes: shapes.map(paths => eventHash(whole, paths)).filter(hash => hash !== null),
    runs: starts.map(name => ({ id: newUuid(), function: name, version: 1, watches: [], tags: null })),
  }
}

/** Accepts events, which the workspace must take. */
export async function send(
  store: Store,
  events: IngestEvent[],
  sql = store.sql,
): Promise<Extract<Ingested, { stale: false }>> {
  const result = await ingest(sql, store.ws, VERSION, events)
  if (result.stale) throw new Error('The workspace has another version.')
  return result
}

/** Starts `count` runs of one function. */
export async function startRuns(store: Store, count: number, name = 'greet'): Promise<RunId[]> {
  const events = Array.from({ length: count }, () => anEvent({ name: 'start', shapes: [], starts: [name] }))
  await send(store, events)
  return events.map(event => event.runs[0]?.id as RunId)
}

export async function startRun(store: Store): Promise<RunId> {
  return (await startRuns(store, 1))[0] as RunId
}

export type Leased = Claimed & { token: Token; ws: WorkspaceId }

export function newToken(): Token {
  return (randomBytes(8).readBigUInt64BE() >> 1n).toString() as Token
}

/** Claims up to `limit` runs. */
export async function lease(
  store: Store,
  limit = 100,
  given: { sql?: Sql; worker?: WorkerId } = {},
): Promise<Leased[]> {
  const token = newToken()
  const claimed = await claim(given.sql ?? store.sql, store.ws, limit, given.worker ?? store.worker, token)
  return claimed.map(row => ({ ...row, token, ws: store.ws }))
}

/** Claims the one run that is runnable. */
export async function leaseOne(store: Store): Promise<Leased> {
  const [only, ...others] = await lease(store)
  if (only === undefined || others.length > 0) throw new Error(`Not one run is runnable but ${others.length}.`)
  return only
}

type Step = SettleChange['step'] | SettleChange

/** A decision about a leased run. `next` continues the journal where the run's last decision left it. */
export function anAdvance(leased: Leased, changes: Change[], step: Step, next: Partial<Advance> = {}): Advance {
  return {
    runId: leased.runId,
    token: leased.token,
    generation: leased.generation,
    turn: leased.turn,
    nextSeq: (leased.journal.at(-1)?.seq ?? 0) + 1,
    clearTrouble: leased.trouble !== null,
    attempts: 0,
    stamps: { readyAtMs: leased.readyAtMs, sentMs: null, firstByteMs: null, endedMs: null, replayMs: null },
    changes: [...changes, typeof step === 'string' ? aSettle(step) : step],
    parent: leased.parent,
    nextVersion: 1,
    follow: null,
    starts: new Map(),
    ...next,
  }
}

export function aSettle(step: SettleChange['step']): SettleChange {
  switch (step) {
    case 'trouble':
      return { kind: 'settle', step, trouble: TROUBLE, resendMs: 60_000 }
    case 'done':
      return { kind: 'settle', step, state: 'completed', output: '1', error: null }
    case 'next_generation':
      return {
        kind: 'settle',
        step,
        unread: [],
        event: JSON.stringify({ id: 'evt', name: 'next', data: {}, ts: '2026-03-01T12:00:00.000Z' }),
      }
    default:
      return { kind: 'settle', step }
  }
}

export const TROUBLE = {
  code: 'app_unreachable',
  message: 'Nobody there.',
  attempts: 1,
  since: '2026-03-01T12:00:00.000Z',
} as const

/** Writes decisions of the test's workspace. */
export async function write(store: Store, items: Advance[], sql = store.sql): Promise<Advanced[]> {
  return advance(sql, store.ws, items)
}

/** Writes one decision, which must be taken. */
export async function writeOne(
  store: Store,
  item: Advance,
  sql = store.sql,
): Promise<Exclude<Advanced, { status: 'stale' }>> {
  const [result] = await write(store, [item], sql)
  if (result === undefined || result.status === 'stale') throw new Error('The lease is not valid any more.')
  return result
}

/** A journal line: a completed step, when nothing else is said. */
export function aRecord(given: Partial<RecordChange> & { key: string }): RecordChange {
  return { kind: 'record', type: 'step_completed', saw: 1, settles: true, data: '1', ...given }
}

/** A sleep that has begun. */
export function aSleep(key: string, dueAtMs: number): Change[] {
  return [
    aRecord({ type: 'sleep_started', key, settles: false, data: null }),
    { kind: 'open_wait', wait: 'sleep', key, dueAtMs },
  ]
}

/** A failed attempt that will be made again. */
export function aRetry(key: string, dueAtMs: number): Change[] {
  return [
    aRecord({ type: 'step_retrying', key, settles: false, data: null }),
    { kind: 'open_wait', wait: 'retry', key, dueAtMs, why: 'Error: no (attempt 1 of 4)' },
  ]
}

/** A wait for an event of the default name. */
export function aWait(key: string, given: { event?: string; match?: Match; dueAtMs?: number | null } = {}): Change[] {
  const { event = 'thing', match = {}, dueAtMs = null } = given
  return [
    aRecord({ type: 'wait_opened', key, settles: false, data: null }),
    { kind: 'open_wait', wait: 'event', key, dueAtMs, event, match },
  ]
}

/** Starts a run that has settled its first turn with these changes and is parked. */
export async function parkRun(store: Store, changes: Change[]): Promise<RunId> {
  return (await parkRuns(store, 1, () => changes))[0] as RunId
}

export async function parkRuns(store: Store, count: number, changes: (n: number) => Change[]): Promise<RunId[]> {
  const runs = await startRuns(store, count)
  const wanted = new Map(runs.map((run, n) => [run, n]))
  for (let parked = 0; parked < count; ) {
    const leased = await lease(store)
    await write(
      store,
      leased.map(one => anAdvance(one, changes(wanted.get(one.runId) ?? 0), 'waiting')),
    )
    parked += leased.length
  }
  return runs
}

/** A run's journal without its start, as `type key` and data. */
export async function journalOf(store: Store, run: RunId): Promise<{ line: string; data: Json }[]> {
  const rows = await store.sql<{ type: string; key: string; data: string | null }[]>`
    select type, key, data from stepwell.journal where ws = ${store.ws} and run_id = ${run} and seq > 1 order by seq`
  return rows.map(({ type, key, data }) => ({ line: `${type} ${key}`, data: data === null ? null : JSON.parse(data) }))
}

/** What lies in a run's inbox, in order of arrival, as `type key`. */
export async function inboxOf(store: Store, run: RunId): Promise<string[]> {
  const rows = await store.sql<{ line: string }[]>`
    select type || ' ' || key as line from stepwell.inbox
    where ws = ${store.ws} and run_id = ${run}
    order by arrived_at, ord`
  return rows.map(row => row.line)
}

/** A run's queue row; null when it has none. */
export async function queueRowOf(store: Store, run: RunId): Promise<{ owner: string | null; again: boolean } | null> {
  const [row] = await store.sql<{ owner: string | null; again: boolean }[]>`
    select owner, again from stepwell.queue where ws = ${store.ws} and run_id = ${run}`
  return row ?? null
}

/** The database's clock, Unix milliseconds with fractions. */
export async function databaseNowMs(store: Store): Promise<number> {
  const [row] = await store.sql<{ ms: number }[]>`select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms`
  return row?.ms ?? 0
}

/** Moves a workspace's due times into the past by `ms`: as if that much time had gone by. */
export async function passTime(store: Store, ms: number): Promise<void> {
  await store.sql`
    update stepwell.waits set due_at = due_at - make_interval(secs => ${ms}::float8 / 1000)
    where ws = ${store.ws} and due_at is not null`
}

/** Resolves when some backend of the database waits for a lock. */
export async function someoneWaits(store: Store, count = 1): Promise<void> {
  for (;;) {
    const [row] = await store.sql<{ waiting: number }[]>`
      select count(*)::int as waiting from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
    if ((row?.waiting ?? 0) >= count) return
  }
}
