import type { EntryType } from '@stepwell/protocol'
import type { RunId, Token, WorkerId, WorkspaceId } from '../core/ids.ts'
import type { Sql } from './db.ts'

/** One leased run, with its journal, as `claim` reads it. */
export interface Claimed {
  runId: RunId
  function: string
  /** Of the function. */
  functionVersion: number
  generation: number
  turn: number
  trouble: string | null
  /** The run that invoked it; null when an event started it. */
  parent: Parent | null
  /** When the run began, Unix milliseconds. */
  createdAtMs: number
  wantsUndo: boolean
  /** JSON texts. */
  status: string | null
  tags: string | null
  /** The workspace's version at the claim. */
  version: string
  /** The database's clock at the claim, Unix milliseconds with fractions. */
  nowMs: number
  readyAtMs: number
  journal: ClaimedEntry[]
}

/** The run that invoked another, and its wait for the other's end; null when it does not wait. */
export interface Parent {
  ws: WorkspaceId
  runId: RunId
  wait: { key: string; generation: number } | null
}

export interface ClaimedEntry {
  seq: number
  turn: number
  at: string
  type: EntryType
  key: string | null
  saw: number | null
  /** JSON text */
  data: string | null
}

type ClaimRow = Omit<Claimed, 'journal' | 'readyAtMs' | 'createdAtMs' | 'parent'> &
  Omit<ClaimedEntry, 'at' | 'turn'> & {
    parentId: RunId | null
    parentWs: WorkspaceId | null
    parentKey: string | null
    parentGeneration: number | null
    entryTurn: number
    at: Date
    readyAt: Date
    createdAt: Date
  }

/**
 * Leases up to `limit` runnable runs to the worker, under one new token. `fromMs`: those that became runnable then or later
 * (database's clock, Unix milliseconds); null for all.
 */
export async function claim(
  sql: Sql,
  ws: WorkspaceId,
  limit: number,
  worker: WorkerId,
  token: Token,
  fromMs: number | null = null,
): Promise<Claimed[]> {
  const rows = await sql<ClaimRow[]>`select * from stepwell.claim(${ws}, ${limit}, ${worker}, ${token}, ${fromMs})`
  const claimed: Claimed[] = []
  let current: Claimed | undefined
  for (const row of rows) {
    if (current?.runId !== row.runId) {
      const {
        runId,
        function: name,
        functionVersion,
        generation,
        turn,
        trouble,
        wantsUndo,
        status,
        tags,
        version,
        nowMs,
      } = row
      current = {
        runId,
        function: name,
        functionVersion,
        generation,
        turn,
        trouble,
        parent: parentOf(ws, row),
        createdAtMs: row.createdAt.getTime(),
        wantsUndo,
        status,
        tags,
        version,
        nowMs,
        readyAtMs: row.readyAt.getTime(),
        journal: [],
      }
      claimed.push(current)
    }
    const { seq, type, key, saw, data } = row
    current.journal.push({ seq, turn: row.entryTurn, at: row.at.toISOString(), type, key, saw, data })
  }
  return claimed
}

function parentOf(ws: WorkspaceId, row: ClaimRow): Parent | null {
  const { parentId, parentWs, parentKey, parentGeneration } = row
  if (parentId === null) return null
  const isAwaited = parentKey !== null && parentGeneration !== null
  return {
    ws: parentWs ?? ws,
    runId: parentId,
    wait: isAwaited ? { key: parentKey, generation: parentGeneration } : null,
  }
}

/** Workspaces with runnable runs, by a loose walk of the index: a plain read that locks nothing. */
export async function findRunnable(sql: Sql): Promise<WorkspaceId[]> {
  const rows = await sql<{ ws: WorkspaceId }[]>`
    with recursive walk as (
      (select ws from stepwell.queue where owner is null order by ws limit 1)
      union all
      select (select q.ws from stepwell.queue q where q.owner is null and q.ws > walk.ws order by q.ws limit 1)
      from walk where walk.ws is not null
    )
    select ws from walk where ws is not null`
  return rows.map(row => row.ws)
}

/** Who holds a run under this token; null when nobody does. */
export async function findHolder(sql: Sql, ws: WorkspaceId, runId: RunId, token: Token): Promise<WorkerId | null> {
  const [row] = await sql<{ owner: WorkerId }[]>`
    select owner from stepwell.queue where ws = ${ws} and run_id = ${runId} and token = ${token}`
  return row?.owner ?? null
}

/** Says that the worker lives. Returns the database's clock, Unix milliseconds. */
export async function heartbeat(sql: Sql, worker: WorkerId, note: string): Promise<number> {
  const [row] = await sql<{ ms: number }[]>`
    insert into stepwell.workers (id, note) values (${worker}, ${note})
    on conflict (id) do update set heartbeat_at = clock_timestamp()
    returning (extract(epoch from clock_timestamp()) * 1000)::float8 as ms`
  if (row === undefined) throw new Error('The heartbeat returned no row.')
  return row.ms
}

/** Workspaces in which some worker holds something: where to look for dead ones. */
export async function findLeased(sql: Sql): Promise<WorkspaceId[]> {
  const rows = await sql<{ ws: WorkspaceId }[]>`
    select distinct ws from stepwell.queue
    where owner is not null and owner not in (select id from stepwell.workers where heartbeat_at > now() - interval '1 second')`
  return rows.map(row => row.ws)
}

/** Frees the runs of workers that have been silent for longer than the lease. Returns how many. */
export async function reap(sql: Sql, ws: WorkspaceId, leaseMs: number): Promise<number> {
  const [row] = await sql<{ freed: number }[]>`select stepwell.reap(${ws}, ${leaseMs}) as freed`
  return row?.freed ?? 0
}

/** Forgets workers that have been silent for long. */
export async function forgetWorkers(sql: Sql, silentMs: number): Promise<void> {
  await sql`
    delete from stepwell.workers
    where heartbeat_at < now() - make_interval(secs => ${silentMs}::float8 / 1000)
      and not exists (select from stepwell.queue where owner = id)`
}

/** Ends every other worker's leases: for a dev engine, which owns its data folder and so is the only one alive. */
export async function forgetOtherWorkers(sql: Sql, worker: WorkerId): Promise<void> {
  await sql`delete from stepwell.workers where id <> ${worker}`
}

/** Hands back everything the worker holds. */
export async function release(sql: Sql, worker: WorkerId): Promise<number> {
  const rows = await sql<{ ws: WorkspaceId }[]>`select distinct ws from stepwell.queue where owner = ${worker}`
  let freed = 0
  for (const { ws } of rows) {
    const [row] = await sql<{ freed: number }[]>`select stepwell.release(${ws}, ${worker}) as freed`
    freed += row?.freed ?? 0
  }
  await sql`delete from stepwell.workers where id = ${worker}`
  return freed
}

/** How old a lease must be before it can count as one without a holder: claims and settles under way are younger. */
const ORPHAN_AGE_SECONDS = 3

/** Old enough leases of the worker, for comparison with its memory. */
export async function findOrphans(
  sql: Sql,
  worker: WorkerId,
): Promise<{ ws: WorkspaceId; runId: RunId; token: Token }[]> {
  return sql`
    select ws, run_id, token from stepwell.queue
    where owner = ${worker} and claimed_at < clock_timestamp() - make_interval(secs => ${ORPHAN_AGE_SECONDS})`
}

/** Ends one lease, if it is still the one of that token. */
export async function giveBack(sql: Sql, ws: WorkspaceId, runId: RunId, token: Token): Promise<void> {
  await sql`
    update stepwell.queue set owner = null, token = null, claimed_at = null
    where ws = ${ws} and run_id = ${runId} and token = ${token}`
}
