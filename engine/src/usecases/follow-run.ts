/*
 * Following a run from outside: its messages after a cursor, in order, then those that come, then its end. The database is
 * the truth; being told (run-followers.ts) is only when to look.
 */
import { EngineError } from '../core/errors.ts'
import type { RunId, WorkspaceId } from '../core/ids.ts'
import type { Sql } from '../store/db.ts'
import { type PublishedMessage, type PublishedPage, readPublished } from '../store/published.ts'
import type { Follower, RunFollowers } from './run-followers.ts'

/** Messages that are read at once: with their largest size, 2 MiB. */
const PAGE_MESSAGES = 32

export interface FollowRunDeps {
  sql: Sql
  followers: RunFollowers
}

export interface FollowRequest {
  ws: WorkspaceId
  runId: RunId
  /** The seq of the last message that the reader has. */
  after: number
  /** Null for all. */
  channels: readonly string[] | null
  /** Say that there is nothing new after this long. */
  idleMs: number
}

/** What a reader gets, in order. */
export type FollowItem =
  | { kind: 'message'; message: PublishedMessage }
  | { kind: 'idle' }
  /** The last one. Items that end without it were cut off. */
  | { kind: 'end'; state: NonNullable<PublishedPage['ended']> }

export interface Following {
  items: AsyncGenerator<FollowItem, void>
  /** Ends the items, and lets go of everything. May be called twice. */
  close(): void
}

/**
 * Begins to follow a run; null when the workspace has none of that id. Whoever gets it closes it, or reads to its end.
 * Throws `draining` and `too_many_streams`.
 */
export async function followRun(deps: FollowRunDeps, request: FollowRequest): Promise<Following | null> {
  const { followers } = deps
  if (followers.isClosed)
    throw new EngineError('draining', 503, 'The engine is about to stop. Follow the run on another one, or try again.')
  if (followers.count >= followers.max) {
    const message = `This engine has ${followers.max} open streams, which is the most. Try again, or follow the run on another engine.`
    throw new EngineError('too_many_streams', 503, message)
  }
  const follower = followers.open(request.ws, request.runId)
  try {
    const first = await read(deps, request, request.after)
    if (first === null) follower.close()
    return first === null ? null : { items: follow(deps, request, follower, first), close: () => follower.close() }
  } catch (error) {
    follower.close()
    throw error
  }
}

async function* follow(
  deps: FollowRunDeps,
  request: FollowRequest,
  follower: Follower,
  first: PublishedPage,
): AsyncGenerator<FollowItem, void> {
  let page: PublishedPage | null = first
  let cursor = request.after
  try {
    // A run that is gone altogether has ended long ago: whoever asks again is told.
    while (page !== null && !follower.isClosed) {
      for (const message of page.messages) {
        if (follower.isClosed) return
        cursor = message.seq
        yield { kind: 'message', message }
      }
      if (page.messages.length < PAGE_MESSAGES) {
        // What lies on other channels is not looked at again.
        cursor = Math.max(cursor, page.head)
        if (page.ended !== null) {
          yield { kind: 'end', state: page.ended }
          return
        }
        while (!(await follower.hasNews(request.idleMs))) {
          if (follower.isClosed) return
          yield { kind: 'idle' }
        }
      }
      page = await read(deps, request, cursor)
    }
  } finally {
    follower.close()
  }
}

function read(deps: FollowRunDeps, request: FollowRequest, after: number): Promise<PublishedPage | null> {
  const { ws, runId, channels } = request
  return readPublished(deps.sql, { ws, runId, channels, after, limit: PAGE_MESSAGES })
}
