/**
 * Measures how long a handler has been quiet, in time in which it could have moved. While the event loop stands still
 * (a long computation, a machine that is asleep) nothing moves, so the window is looked at in slices: a slice that ends
 * on time counts, and after one that ends late the window starts again.
 */

/** Looked at this often. */
const SLICE_MS = 100

/** A slice that took longer than this ended late. */
const LATE_MS = 200

/** A process that is always late must come to an end all the same. */
const MAX_RESTARTS = 3

/** One window; times are milliseconds of the monotonic clock. */
export class QuietWindow {
  /** When it was opened last. */
  openedAtMs = 0
  #durationMs = 0
  #leftMs = 0
  #lookedAtMs = 0
  #restartsLeft = 0

  get isOpen(): boolean {
    return this.#leftMs > 0
  }

  /** When to look again: Infinity when it is not open. */
  get looksAgainAtMs(): number {
    return this.isOpen ? this.#lookedAtMs + Math.min(this.#leftMs, SLICE_MS) : Number.POSITIVE_INFINITY
  }

  /** Opens it anew; for 0 it is closed. */
  open(durationMs: number, nowMs: number): void {
    this.openedAtMs = nowMs
    this.#durationMs = durationMs
    this.#leftMs = durationMs
    this.#lookedAtMs = nowMs
    this.#restartsLeft = MAX_RESTARTS
  }

  /** Counts the time that has passed. To be called at `looksAgainAtMs` at the latest. */
  look(nowMs: number): void {
    if (!this.isOpen) return
    const passedMs = nowMs - this.#lookedAtMs
    this.#lookedAtMs = nowMs
    if (passedMs > LATE_MS && this.#restartsLeft > 0) {
      this.#restartsLeft -= 1
      this.#leftMs = this.#durationMs
    } else {
      this.#leftMs -= Math.min(passedMs, SLICE_MS)
    }
  }
}
