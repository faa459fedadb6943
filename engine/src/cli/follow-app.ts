/*
 * Finds the app that was named with -u, or that registered the last time, and finds it again when it has been away: a sync
 * lets the runs that wait for it go on at once. An app that was named is asked every few seconds for functions that it has
 * gained; one that registers by itself tells us, and is left in peace.
 */
import type { SyncAnswer } from '@stepwell/protocol'
import { EngineError } from '../core/errors.ts'

/** While nobody is there. */
const LOOKING_MS = 500
/** While the app answers, or something else does: each look is a line in somebody's log. */
const FOLLOWING_MS = 5_000

export interface FollowOptions {
  /** Where to look now; null when nobody has said yet. */
  url: () => Promise<string | null>
  /** It was named, and may not register by itself. */
  isNamed: boolean
  /** `onlyChanges`: it answered a moment ago too, so that only other functions are news. */
  sync: (url: string, how: { onlyChanges: boolean }) => Promise<SyncAnswer>
  /** Somebody is there, but it is not an app of ours: told once, until it is. That nobody is there is no news. */
  onStrange: (message: string) => void
}

export interface Follower {
  /** Nobody was there for a run: look until somebody is. */
  lookSoon(): void
  /** Resolves when nothing is under way. */
  stop(): Promise<void>
}

/** Starts looking. */
export function followApp(options: FollowOptions): Follower {
  let isStopped = false
  let timer: NodeJS.Timeout | undefined
  let isStrange = false
  let followed: string | null = null
  /** A look is under way, or will be within `LOOKING_MS`. */
  let isSoon = false
  let underWay = look()

  async function look(): Promise<void> {
    isSoon = true
    const pauseMs = await lookOnce()
    isSoon = false
    if (pauseMs !== null) lookIn(pauseMs)
  }

  function lookIn(ms: number): void {
    if (isStopped) return
    clearTimeout(timer)
    timer = setTimeout(start, ms)
    isSoon = ms <= LOOKING_MS
  }

  function start(): void {
    underWay = look()
  }

  /** How long to pause; null when there is nothing to look for. */
  async function lookOnce(): Promise<number | null> {
    const url = await options.url().catch(() => null)
    if (url === null || isStopped) return null
    try {
      await options.sync(url, { onlyChanges: url === followed })
      followed = url
      isStrange = false
      return options.isNamed ? FOLLOWING_MS : null
    } catch (error) {
      followed = null
      // Anything else is about us (the database is away): the next look will tell.
      if (!(error instanceof EngineError) || error.status !== 422) return LOOKING_MS
      if (error.code === 'app_unreachable') return LOOKING_MS
      if (!isStrange) options.onStrange(error.message)
      isStrange = true
      return FOLLOWING_MS
    }
  }

  return {
    lookSoon() {
      if (isSoon) return
      followed = null
      // Not at once: a success lets all runs try again, which may be what asked for this look.
      lookIn(LOOKING_MS)
    },
    async stop() {
      isStopped = true
      clearTimeout(timer)
      await underWay
    },
  }
}
