/**
 * Watches one execution of a body that has a limit: how long it may take, and how long it may be silent. One timer, which looks
 * at whichever limit comes first and sets itself again, so that a heartbeat costs one assignment. It keeps no process alive.
 *
 * A body that blocks the event loop is not interrupted; when it has ended by the time the timer gets its turn, its result counts.
 */
import { formatDuration } from '@stepwell/protocol'
import { TimeoutError } from './errors.ts'

/** The limits of one execution of a body, in milliseconds. */
export interface BodyLimits {
  readonly timeoutMs: number | undefined
  readonly heartbeatMs: number | undefined
}

/** The most that setTimeout takes; with more it would not wait at all. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Runs from its construction to `stop`. */
export class BodyWatch {
  /** Rejects with a TimeoutError when a limit is exceeded; never settles otherwise. */
  readonly overdue: Promise<never>
  readonly #key: string
  readonly #limits: BodyLimits
  readonly #onOverdue: (error: TimeoutError) => void
  readonly #startedAtMs = performance.now()
  #heardAtMs = this.#startedAtMs
  #timer: NodeJS.Timeout

  /** @param input `onOverdue` is called when a limit is exceeded, once */
  constructor(input: { key: string; limits: BodyLimits; onOverdue: (error: TimeoutError) => void }) {
    this.#key = input.key
    this.#limits = input.limits
    let reject!: (error: TimeoutError) => void
    this.overdue = new Promise<never>((_resolve, no) => {
      reject = no
    })
    this.#onOverdue = error => {
      // First: a body that ends because its signal fires has been too slow all the same.
      reject(error)
      input.onOverdue(error)
    }
    this.#timer = this.#arm(this.#startedAtMs)
  }

  /** The body is alive. */
  hear(): void {
    this.#heardAtMs = performance.now()
  }

  /** The body has ended. */
  stop(): void {
    clearTimeout(this.#timer)
  }

  get #timeoutAtMs(): number {
    return this.#startedAtMs + (this.#limits.timeoutMs ?? Number.POSITIVE_INFINITY)
  }

  get #silentAtMs(): number {
    return this.#heardAtMs + (this.#limits.heartbeatMs ?? Number.POSITIVE_INFINITY)
  }

  #arm(nowMs: number): NodeJS.Timeout {
    const leftMs = Math.min(this.#timeoutAtMs, this.#silentAtMs) - nowMs
    return setTimeout(() => this.#look(), Math.min(MAX_TIMER_MS, Math.ceil(leftMs))).unref()
  }

  #look(): void {
    const nowMs = performance.now()
    const { timeoutMs = 0, heartbeatMs = 0 } = this.#limits
    if (nowMs >= this.#timeoutAtMs) {
      const message = `Step ${JSON.stringify(this.#key)} did not end within ${formatDuration(timeoutMs)}. Give it a longer timeout, or find out what its body waits for.`
      this.#onOverdue(new TimeoutError('step_timed_out', message))
    } else if (nowMs >= this.#silentAtMs) {
      const message = `The body of step ${JSON.stringify(this.#key)} did not call context.heartbeat() for ${formatDuration(heartbeatMs)}. Call it more often, or find out where the body hangs.`
      this.#onOverdue(new TimeoutError('step_heartbeat_lost', message))
    } else {
      this.#timer = this.#arm(nowMs)
    }
  }
}
