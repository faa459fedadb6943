/** For who is woken already: the same promise for all. */
const AT_ONCE = Promise.resolve()

/** One sleeper, woken by a call or by the clock. One timer at most, set anew only when it has to ring earlier. */
export class Alarm {
  #isWoken = false
  #resolve: (() => void) | null = null
  #timer: NodeJS.Timeout | null = null
  #ringsAtMs = Number.POSITIVE_INFINITY

  /** Wakes the sleeper, or lets the next `wait` return at once. */
  wake(): void {
    if (this.#resolve === null) {
      this.#isWoken = true
      return
    }
    this.#resolve()
    this.#resolve = null
  }

  /** Forgets the calls so far: the caller looks at everything now. */
  clear(): void {
    this.#isWoken = false
  }

  /**
   * Sleeps until `wake`, or until `untilMs` of the monotonic clock. May return early: look again at what was waited for.
   */
  wait(untilMs: number): Promise<void> {
    if (this.#isWoken) {
      this.#isWoken = false
      return AT_ONCE
    }
    this.#set(untilMs)
    return new Promise(resolve => {
      this.#resolve = resolve
    })
  }

  /** Stops the timer. */
  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  #set(untilMs: number): void {
    if (untilMs === Number.POSITIVE_INFINITY) return
    if (this.#timer !== null && this.#ringsAtMs <= untilMs) return
    this.close()
    this.#ringsAtMs = untilMs
    const waitMs = Math.max(0, Math.ceil(untilMs - performance.now()))
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.wake()
    }, waitMs)
  }
}
