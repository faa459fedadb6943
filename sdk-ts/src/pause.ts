/** A pause that can be cut short. */
export class Pause {
  #wake: (() => void) | null = null
  #isDue = false
  #isClosed = false

  /** Ends the pause; when there is none, the next one is over at once. */
  end(): void {
    this.#isDue = true
    this.#wake?.()
  }

  /** From now on there are no pauses. */
  close(): void {
    this.#isClosed = true
    this.end()
  }

  /** @returns whether it was cut short */
  async forMs(ms: number): Promise<boolean> {
    if (!this.#isDue) await this.#sleep(ms)
    const wasDue = this.#isDue
    this.#isDue = false
    return wasDue
  }

  /** A pause that only `close` cuts short. */
  async forMsAtLeast(ms: number): Promise<void> {
    const untilMs = performance.now() + ms
    for (let leftMs = ms; leftMs > 0 && !this.#isClosed; leftMs = untilMs - performance.now()) await this.#sleep(leftMs)
  }

  async #sleep(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>(resolve => {
      this.#wake = resolve
      timer = setTimeout(resolve, ms)
    })
    clearTimeout(timer)
    this.#wake = null
  }
}
