import type { RunId, WorkspaceId } from '../core/ids.ts'
import { plainArray, textArray } from './arrays.ts'
import type { Sql } from './db.ts'

/** One message to one run. */
export interface Message {
  runId: RunId
  /** Of the name. */
  hash: string
  /** Of the sender's id: the same message twice is one. */
  id: string
  /** JSON text, in the shape of an event. */
  data: string
}

/** `ended`: there is no live run of that id. `full`: as many as a run may have wait already. */
export type Delivery = 'ok' | 'ended' | 'full'

/** Gives messages to their runs: to waits that are open, or into their buffers. In the order of `messages`. */
export async function deliverMessages(
  sql: Sql,
  ws: WorkspaceId,
  messages: Message[],
  maxPerRun: number,
): Promise<Delivery[]> {
  const [row] = await sql<{ statuses: string }[]>`
    select array_to_string(stepwell.signal(
      ${ws}, ${plainArray(messages.map(m => m.runId))}, ${plainArray(messages.map(m => m.hash))},
      ${plainArray(messages.map(m => m.id))}, ${textArray(messages.map(m => m.data))}, ${maxPerRun}), ',') as statuses`
  return (row?.statuses.split(',') ?? []) as Delivery[]
}
