import type { RecordChange } from '../core/change.ts'
import type { RunId, Token, WorkspaceId } from '../core/ids.ts'
import { plainArray, textArray } from './arrays.ts'
import type { Sql } from './db.ts'

/** New journal entries of one leased run whose turn goes on. */
export interface Recording {
  runId: RunId
  token: Token
  generation: number
  turn: number
  /** The seq that the first entry gets. */
  nextSeq: number
  entries: RecordChange[]
}

export type Recorded =
  | { status: 'ok'; nowMs: number }
  /** Nothing was written: another has the run, or something has arrived for it. `advance` tells which, and does the rest. */
  | { status: 'refused' }

/** Writes the entries of many runs of one workspace in one statement, each run fenced by its token. In the order of `items`. */
export async function record(sql: Sql, ws: WorkspaceId, items: Recording[]): Promise<Recorded[]> {
  const entries = items.flatMap((item, index) =>
    item.entries.map((entry, n) => ({ run: index + 1, seq: item.nextSeq + n, entry })),
  )
  const [row] = await sql<{ refused: string | null; nowMs: number }[]>`
    select array_to_string(refused, ',') as refused, now_ms from stepwell.record(
      ${ws},
      ${plainArray(items.map(i => i.runId))}, ${plainArray(items.map(i => i.token))},
      ${plainArray(items.map(i => i.generation))}, ${plainArray(items.map(i => i.turn))},
      ${plainArray(entries.map(e => e.run))}, ${plainArray(entries.map(e => e.seq))},
      ${plainArray(entries.map(e => e.entry.type))}, ${textArray(entries.map(e => e.entry.key))},
      ${plainArray(entries.map(e => e.entry.saw))}, ${plainArray(entries.map(e => e.entry.settles))},
      ${plainArray(entries.map(e => e.entry.startedMs ?? null))}, ${plainArray(entries.map(e => e.entry.durationMs ?? null))},
      ${textArray(entries.map(e => e.entry.data))})`
  if (row === undefined) throw new Error('The statement returned no row.')
  const recorded: Recorded[] = items.map(() => ({ status: 'ok', nowMs: row.nowMs }))
  for (const n of row.refused?.split(',') ?? []) recorded[Number(n) - 1] = { status: 'refused' }
  return recorded
}
