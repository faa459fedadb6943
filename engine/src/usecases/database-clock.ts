/*
 * The database's clock, as this process knows it. Every question "what time is it?" bounds it from both sides: it was read
 * after the question and before the answer. The bounds of many answers are narrower than those of one. `nowMs` is the upper
 * one: what is due by it is due by the database's clock too, so that no sleep ends early.
 */

/** Two clocks run apart by less than that: 0.1 ms in a second. */
const DRIFT = 1e-4

export class DatabaseClock {
  readonly #monotonicMs: () => number
  /** Bounds of what to add to the monotonic clock. */
  #low = Number.NEGATIVE_INFINITY
  #high: number
  #notedAtMs: number

  /** @param clocks of this process; the wall clock serves until the database has been asked */
  constructor(clocks: { monotonicMs: () => number; wallMs: () => number }) {
    this.#monotonicMs = clocks.monotonicMs
    this.#notedAtMs = clocks.monotonicMs()
    this.#high = clocks.wallMs() - this.#notedAtMs
  }

  /** Unix milliseconds with fractions; never behind the database's clock by more than the clocks drift. */
  nowMs(): number {
    return this.#monotonicMs() + this.#high
  }

  /** The database said `databaseMs` in answer to a question that was asked at `askedAtMs` of the monotonic clock. */
  note(databaseMs: number, askedAtMs: number): void {
    const answeredAtMs = this.#monotonicMs()
    const low = databaseMs - answeredAtMs
    const high = databaseMs - askedAtMs
    const drifted = (answeredAtMs - this.#notedAtMs) * DRIFT
    const narrowLow = Math.max(low, this.#low - drifted)
    const narrowHigh = Math.min(high, this.#high + drifted)
    // One of the clocks was set, or stood still: only what was heard last is true.
    const isContradiction = this.#low === Number.NEGATIVE_INFINITY || narrowLow > narrowHigh
    this.#low = isContradiction ? low : narrowLow
    this.#high = isContradiction ? high : narrowHigh
    this.#notedAtMs = answeredAtMs
  }
}
