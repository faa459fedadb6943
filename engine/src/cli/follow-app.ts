/*
 * Finds the app that was named with -u, or that registered the last time: asks it what it serves until it answers, and
 * goes on asking, so that functions which it gains by a restart or a reload are known without its doing.
 */
import type { SyncAnswer } from '@stepwell/protocol'
import { EngineError } from '../core/errors.ts'

const LOOKING_MS = 500
const FOLLOWING_MS = 3_000

export interface FollowOptions {
  /** Where to look now; null when nobody has said yet. */
  url: () => Promise<string | null>
  /** `onlyChanges`: it answered a moment ago too, so that only other functions are news. */
  sync: (url: string, how: { onlyChanges: boolean }) => Promise<SyncAnswer>
  /** Somebody is there, but it is not an app of ours: told once, until it is. That nobody is there is no news. */
  onStrange: (message: string) => void
}

/** Starts following; the returned function stops it and resolves when nothing is under way. */
export function followApp(options: FollowOptions): () => Promise<void> {
  let isStopped = false
  let timer: NodeJS.Timeout | undefined
  let isStrange = false
  let followed: string | null = null
  let underWay = look()

  async function look(): Promise<void> {
    const pauseMs = await lookOnce()
    if (!isStopped)
      timer = setTimeout(() => {
        underWay = look()
      }, pauseMs)
  }

  async function lookOnce(): Promise<number> {
    const url = await options.url().catch(() => null)
    if (url === null || isStopped) return FOLLOWING_MS
    try {
      await options.sync(url, { onlyChanges: url === followed })
      followed = url
      isStrange = false
      return FOLLOWING_MS
    } catch (error) {
      followed = null
      // Anything else is about us (the database is away): the next look will tell.
      if (!(error instanceof EngineError) || error.status !== 422) return LOOKING_MS
      if (error.code !== 'app_unreachable' && !isStrange) {
        isStrange = true
        options.onStrange(error.message)
      }
      return LOOKING_MS
    }
  }

  return async () => {
    isStopped = true
    clearTimeout(timer)
    await underWay
  }
}
