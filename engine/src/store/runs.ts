import {
  type Entry,
  encodeId,
  isFinalState,
  type JournalEntryView,
  type RunState,
  type RunView,
  type WireError,
} from '@stepwell/protocol'
import type { Trouble } from '../core/happening.ts'
import type { RunId, WorkspaceId } from '../core/ids.ts'
import { type OpenWait, waitingFor } from '../core/waiting-for.ts'
import type { PendingQuery, Row, Sql } from './db.ts'

interface RunRow {
  id: string
  function: string
  version: number
  generation: number
  state: RunState
  output: string | null
  error: string | null
  trouble: string | null
  waits: string | null
  status: string | null
  tags: string | null
  parentId: string | null
  attempts: number
  createdAt: Date
  finishedAt: Date | null
}

/** How many open waits are read per run: the sentence names a few and counts the rest. */
const WAITS_READ_MAX = 50

/** A page of runs, newest first, live and finished in one order. */
export async function listRuns(sql: Sql, page: Omit<Branch, 'id'>): Promise<RunView[]> {
  const { state, limit } = page
  const branch = { ...page, id: null }
  const wantsDone = state === null || isFinalState(state)
  const wantsLive = state === null || !isFinalState(state)
  const rows = await sql<RunRow[]>`
    select * from (
      ${wantsLive ? liveRuns(sql, branch) : sql``}
      ${wantsLive && wantsDone ? sql`union all` : sql``}
      ${wantsDone ? doneRuns(sql, branch) : sql``}
    ) runs
    order by id desc
    limit ${limit}`
  return rows.map(viewOf)
}

/** One run, live or finished; null when the workspace has none of that id. */
export async function findRun(sql: Sql, ws: WorkspaceId, id: RunId): Promise<RunView | null> {
  const branch = { ws, id, before: null, state: null, function: null, tag: null, limit: 1 }
  const [row] = await sql<RunRow[]>`${liveRuns(sql, branch)} union all ${doneRuns(sql, branch)} limit 1`
  return row === undefined ? null : viewOf(row)
}

type Fragment = PendingQuery<Row[]>
interface Branch {
  ws: WorkspaceId
  id: RunId | null
  before: string | null
  state: RunState | null
  function: string | null
  tag: { name: string; value: string } | null
  limit: number
}

/** What a live run is doing follows from where else it has a row. The page is cut before its waits and attempts are read. */
function liveRuns(sql: Sql, branch: Branch): Fragment {
  return sql`(
    select p.id, p.function, p.version, p.generation, p.state, null as output, null as error, p.status, p.tags, p.parent_id, p.trouble,
      (select json_agg(w)::text from (
        select kind, key, to_char(due_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "dueAt", event
        from stepwell.waits where ws = p.ws and run_id = p.id
        order by opened_at, ord limit ${WAITS_READ_MAX}) w) as waits,
      (select count(*)::int from stepwell.journal j where j.ws = p.ws and j.run_id = p.id and j.generation = p.generation
        and j.type in ('step_completed', 'step_failed', 'step_retrying')) as attempts,
      p.created_at, null::timestamptz as finished_at
    from (
      select r.*, live.state
      from ${liveStates(sql, branch)} live
      join stepwell.runs r on r.ws = ${branch.ws} and r.id = live.id ${filtersOf(sql, branch)}
      order by live.id desc
      limit ${branch.limit}
    ) p)`
}

/** Ids and states. A few runs that are running or queued, among a million that wait, are read from the queue. */
function liveStates(sql: Sql, branch: Branch): Fragment {
  const { ws, state } = branch
  if (state === 'running' || state === 'queued') {
    const owner = state === 'running' ? sql`is not null` : sql`is null`
    return sql`(
      select q.run_id as id, ${state}::text as state
      from stepwell.queue q
      where q.ws = ${ws} and q.owner ${owner} ${idIs(sql, branch, sql`q.run_id`)})`
  }
  return sql`(
    select r.id, s.state
    from stepwell.runs r
    left join stepwell.queue q on q.ws = r.ws and q.run_id = r.id
    cross join lateral (
      select case when q.owner is not null then 'running' when q.run_id is not null then 'queued' else 'waiting' end as state
    ) s
    where r.ws = ${ws} ${idIs(sql, branch, sql`r.id`)} ${filtersOf(sql, branch)}
      ${state === null ? sql`` : sql`and s.state = ${state}`})`
}

function doneRuns(sql: Sql, branch: Branch): Fragment {
  return sql`(
    select r.id, r.function, r.version, r.generation, r.state, r.output, r.error, r.status, r.tags, r.parent_id, null as trouble, null as waits, r.attempts,
      r.created_at, r.finished_at
    from stepwell.runs_done r
    where r.ws = ${branch.ws} ${branch.state === null ? sql`` : doneIs(sql, branch.state)}
      ${idIs(sql, branch, sql`r.id`)} ${filtersOf(sql, branch)}
    order by r.id desc
    limit ${branch.limit})`
}

/** Said in so many words, the index of those that did not complete serves it. */
function doneIs(sql: Sql, state: RunState): Fragment {
  return state === 'completed' ? sql`and r.state = 'completed'` : sql`and r.state <> 'completed' and r.state = ${state}`
}

function idIs(sql: Sql, branch: Branch, id: Fragment): Fragment {
  if (branch.id !== null) return sql`and ${id} = ${branch.id}`
  return branch.before === null ? sql`` : sql`and ${id} < ${branch.before}`
}

function filtersOf(sql: Sql, branch: Branch): Fragment {
  return sql`${functionIs(sql, branch)} ${tagIs(sql, branch)}`
}

/** Served by run_tags_by_value. */
function tagIs(sql: Sql, { ws, tag }: Branch): Fragment {
  if (tag === null) return sql``
  return sql`and r.id in (
    select t.run_id from stepwell.run_tags t where t.ws = ${ws} and t.name = ${tag.name} and t.value = ${tag.value})`
}

function functionIs(sql: Sql, branch: Branch): Fragment {
  return branch.function === null ? sql`` : sql`and r.function = ${branch.function}`
}

function viewOf(row: RunRow): RunView {
  const waits = row.waits === null ? [] : (JSON.parse(row.waits) as OpenWait[])
  const trouble = row.trouble === null ? null : (JSON.parse(row.trouble) as Trouble)
  return {
    id: encodeId('run', row.id),
    function: row.function,
    version: row.version,
    state: row.state,
    output: row.output === null ? null : JSON.parse(row.output),
    error: row.error === null ? null : (JSON.parse(row.error) as WireError),
    waitingFor: isFinalState(row.state) ? null : waitingFor(waits, trouble),
    status: row.status === null ? null : JSON.parse(row.status),
    tags: row.tags === null ? {} : JSON.parse(row.tags),
    parent: row.parentId === null ? null : encodeId('run', row.parentId),
    attempts: row.attempts,
    generation: row.generation,
    createdAt: row.createdAt.toISOString(),
    finishedAt: row.finishedAt?.toISOString() ?? null,
  }
}

interface EntryRow {
  generation: number
  seq: number
  turn: number
  at: Date
  type: string
  key: string | null
  saw: number | null
  startedMs: number | null
  durationMs: number | null
  data: string | null
}

/** A page of the latest generation's journal, in order; null when the run is not there. */
export async function readJournal(
  sql: Sql,
  page: { ws: WorkspaceId; runId: RunId; after: number; limit: number },
): Promise<{ generation: number; entries: JournalEntryView[] } | null> {
  const run = await findRun(sql, page.ws, page.runId)
  if (run === null) return null
  const rows = await sql<EntryRow[]>`
    select generation, seq, turn, at, type, key, saw, started_ms, duration_ms, data
    from stepwell.journal
    where ws = ${page.ws} and run_id = ${page.runId} and generation = ${run.generation} and seq > ${page.after}
    order by seq
    limit ${page.limit}`
  return { generation: run.generation, entries: rows.map(entryOf) }
}

function entryOf(row: EntryRow): JournalEntryView {
  const view = {
    seq: row.seq,
    turn: row.turn,
    at: row.at.toISOString(),
    type: row.type,
    ...(row.key === null ? {} : { key: row.key }),
    ...(row.saw === null ? {} : { saw: row.saw }),
    ...(row.data === null ? {} : { data: JSON.parse(row.data) }),
    ...(row.startedMs === null ? {} : { startedMs: row.startedMs }),
    ...(row.durationMs === null ? {} : { durationMs: row.durationMs }),
  }
  // The table's rows were written from entries: the columns of a type are those that its entries have.
  return view as unknown as Entry
}
