/*
 * A wait with a new set of paths needs keys that arriving events did not get so far. The shape is made known first: from
 * that commit on every accepted event has its key. Then the events before it are walked once, from the start of the
 * run that waits, and get theirs. Only then the wait is registered, so that its look back finds everything by key.
 */
import type { Json, Match } from '@stepwell/protocol'
import type { WorkspaceId } from '../core/ids.ts'
import { eventHash, shapeOf } from '../core/match.ts'
import type { Sql } from '../store/db.ts'
import {
  addEventKeys,
  addShape,
  readEventsSince,
  setShapeCompleteSince,
  shapeCompleteSince,
} from '../store/workspaces.ts'
import type { Catalogs } from './catalogs.ts'

const PAGE_EVENTS = 500

/** Remembers per process how far back each shape is complete, so that the common case is a look in a map. */
export class Shapes {
  readonly #sql: Sql
  readonly #catalogs: Catalogs
  readonly #completeSinceMs = new Map<string, number>()

  constructor(sql: Sql, catalogs: Catalogs) {
    this.#sql = sql
    this.#catalogs = catalogs
  }

  /** Whether a wait of a run that began at `sinceMs` may be registered right away. */
  isComplete(ws: WorkspaceId, event: string, match: Match, sinceMs: number): boolean {
    const known = this.#completeSinceMs.get(keyOf(ws, event, shapeOf(match)))
    return known !== undefined && known <= sinceMs
  }

  /** Makes it so. */
  async ensure(ws: WorkspaceId, event: string, match: Match, sinceMs: number): Promise<void> {
    const paths = shapeOf(match)
    const known = await shapeCompleteSince(this.#sql, ws, event, paths)
    if (known === null || known > sinceMs) {
      await addShape(this.#sql, ws, event, paths)
      await this.#addKeys(ws, event, paths, sinceMs)
      await setShapeCompleteSince(this.#sql, { ws, event, paths, sinceMs })
      await this.#catalogs.reload(ws)
    }
    this.#completeSinceMs.set(keyOf(ws, event, paths), Math.min(known ?? sinceMs, sinceMs))
  }

  async #addKeys(ws: WorkspaceId, event: string, paths: string[], sinceMs: number): Promise<void> {
    let after: { receivedAt: string; id: string } | null = null
    for (;;) {
      const page: Awaited<ReturnType<typeof readEventsSince>> = await readEventsSince(this.#sql, {
        ws,
        event,
        sinceMs,
        after,
        limit: PAGE_EVENTS,
      })
      const keys = page.flatMap(row => {
        const hash = eventHash(
          { id: row.wireId, name: row.name, ts: row.ts, data: JSON.parse(row.data) as Json },
          paths,
        )
        return hash === null ? [] : [{ hash, receivedAt: row.receivedAt, eventId: row.id }]
      })
      if (keys.length > 0) await addEventKeys(this.#sql, ws, keys)
      after = page.at(-1) ?? null
      if (page.length < PAGE_EVENTS) return
    }
  }
}

function keyOf(ws: WorkspaceId, event: string, paths: string[]): string {
  return JSON.stringify([ws, event, paths])
}
