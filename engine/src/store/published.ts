import type { RunState } from '@stepwell/protocol'
import type { RunId, WorkspaceId } from '../core/ids.ts'
import { plainArray, textArray } from './arrays.ts'
import type { Sql } from './db.ts'

/** One message of a run. */
export interface PublishedMessage {
  seq: number
  channel: string
  /** JSON text. */
  data: string
}

/** What a run has published after a cursor, as of one instant. */
export interface PublishedPage {
  /** Null while the run lives. When it is set, no message follows those of this page and the ones after it. */
  ended: Extract<RunState, 'completed' | 'failed' | 'cancelled'> | null
  messages: PublishedMessage[]
  /** The seq of the last message of the run, on whatever channel; 0 for none. */
  head: number
}

interface Row {
  ended: PublishedPage['ended']
  isThere: boolean
  head: number
  seq: number | null
  channel: string
  data: string
}

/**
 * A page of messages in order, and the run's state, in one snapshot: an end that is seen here comes after all messages. Null
 * when the workspace has no such run.
 * @param page `channels`: null for all
 */
export async function readPublished(
  sql: Sql,
  page: { ws: WorkspaceId; runId: RunId; after: number; channels: readonly string[] | null; limit: number },
): Promise<PublishedPage | null> {
  const { ws, runId } = page
  const isWanted = page.channels === null ? sql`` : sql`and channel = any(${textArray(page.channels)}::text[])`
  // one row at least, also when there is no message
  const rows = await sql<Row[]>`
    select run.*, m.seq::float8 as seq, m.channel, m.data
    from (
      select
        (select state from stepwell.runs_done where ws = ${ws} and id = ${runId} limit 1) as ended,
        exists (select from stepwell.runs where ws = ${ws} and id = ${runId}) as is_there,
        (select coalesce(max(seq), 0)::float8 from stepwell.published where ws = ${ws} and run_id = ${runId}) as head
    ) run
    left join lateral (
      select seq, channel, data
      from stepwell.published
      where ws = ${ws} and run_id = ${runId} and seq > ${page.after} ${isWanted}
      order by seq
      limit ${page.limit}
    ) m on true
    order by m.seq`
  const [first] = rows
  if (first === undefined || (first.ended === null && !first.isThere)) return null
  const messages = rows.flatMap(({ seq, channel, data }) => (seq === null ? [] : [{ seq, channel, data }]))
  return { ended: first.ended, messages, head: first.head }
}

/** How far runs have come: the seq of the last message of each, and whether it lives. In the order of `runIds`. */
export async function findHeads(
  sql: Sql,
  ws: WorkspaceId,
  runIds: readonly RunId[],
): Promise<{ runId: RunId; head: number; isLive: boolean }[]> {
  // By the keys of both tables, run by run: `offset 0` keeps the planner from reading them whole.
  return sql`
    select r.id as run_id, p.head, l.id is not null as is_live
    from unnest(${plainArray(runIds)}::uuid[]) with ordinality as r(id, i)
    cross join lateral (
      select coalesce(max(seq), 0)::float8 as head from stepwell.published where ws = ${ws} and run_id = r.id offset 0
    ) p
    left join lateral (select id from stepwell.runs where ws = ${ws} and id = r.id offset 0) l on true
    order by r.i`
}
