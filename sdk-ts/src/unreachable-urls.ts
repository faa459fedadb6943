/** How long a URL that did not answer is taken for unreachable. */
const MEMORY_MS = 30_000

/** Engines come and go, and each has a URL of its own. */
const MAX_URLS = 100

/**
 * The URLs that took no report, known to all turns of the process: each would otherwise find out for itself, and wait
 * for as long. A failure while a URL is remembered does not prolong the memory: an engine that is slow, but there, gets
 * the patience that it needs again.
 */
export class UnreachableUrls {
  /** Until when, in monotonic milliseconds; in the order in which they were added. */
  readonly #untilMs = new Map<string, number>()

  has(url: string, nowMs: number): boolean {
    const untilMs = this.#untilMs.get(url)
    return untilMs !== undefined && nowMs < untilMs
  }

  add(url: string, nowMs: number): void {
    this.#untilMs.delete(url)
    this.#untilMs.set(url, nowMs + MEMORY_MS)
    const [oldest] = this.#untilMs.keys()
    if (this.#untilMs.size > MAX_URLS && oldest !== undefined) this.#untilMs.delete(oldest)
  }

  /** It has answered. */
  delete(url: string): void {
    this.#untilMs.delete(url)
  }
}
