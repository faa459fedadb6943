/*
 * The only loop. Does its work when woken or when its pause is over, never twice at once, and waits longer after each
 * failure: a database that is away is asked again until it is back.
 */
import type { Log } from '../log.ts'

export interface Loop {
  /** Work now, or again when it is working already. */
  wake(): void
  /** Work in `ms` at the latest. */
  wakeIn(ms: number): void
  /** No more work; resolves when the work under way has ended. */
  stop(): Promise<void>
}

const FAILURE_PAUSE_MIN_MS = 50
const FAILURE_PAUSE_MAX_MS = 2_000
/** setTimeout takes no more. */
const TIMEOUT_MAX_MS = 2 ** 31 - 1

/** Starts a loop. `work` returns how long to pause, in milliseconds; 0 is at once. */
export function startLoop(options: { name: string; log: Log; work: () => Promise<number> }): Loop {
  let timer: NodeJS.Timeout | null = null
  let timerAt = Number.POSITIVE_INFINITY
  let isWorking = false
  let isWoken = false
  /** The earliest wish that came while working: it may be about something that the work did not see yet. */
  let wishedAt = Number.POSITIVE_INFINITY
  let isStopped = false
  let failures = 0
  let ended: Promise<void> = Promise.resolve()

  async function turn(): Promise<void> {
    isWorking = true
    isWoken = false
    wishedAt = Number.POSITIVE_INFINITY
    let pauseMs: number
    try {
      pauseMs = await options.work()
      failures = 0
    } catch (error) {
      failures += 1
      pauseMs = Math.min(FAILURE_PAUSE_MAX_MS, FAILURE_PAUSE_MIN_MS * 2 ** failures)
      // A stop closes connections under the last round.
      if (!isStopped) options.log.warn({ loop: options.name, failures, err: error }, 'loop failed, trying again')
    }
    isWorking = false
    if (isStopped) return
    if (isWoken && failures === 0) run()
    else wakeIn(failures > 0 ? pauseMs : Math.min(pauseMs, wishedAt - performance.now()))
  }

  function run(): void {
    clear()
    ended = turn()
  }

  function clear(): void {
    if (timer !== null) clearTimeout(timer)
    timer = null
    timerAt = Number.POSITIVE_INFINITY
  }

  function wakeIn(ms: number): void {
    if (isStopped) return
    if (isWorking) {
      wishedAt = Math.min(wishedAt, performance.now() + ms)
      return
    }
    if (ms <= 0) {
      run()
      return
    }
    const at = performance.now() + ms
    if (at >= timerAt) return
    clear()
    timerAt = at
    timer = setTimeout(run, Math.min(ms, TIMEOUT_MAX_MS))
  }

  wakeIn(0)
  return {
    wake() {
      if (isWorking) isWoken = true
      else if (!isStopped && failures === 0) run()
    },
    wakeIn,
    async stop() {
      isStopped = true
      clear()
      await ended
    },
  }
}
