/** How long a handler that is quiet may still be on its way to something that is no step. */
import type { DurableFunction } from './function.ts'

/**
 * A handler that got a value and then neither asked nor ended may be awaiting something outside (a query, an import),
 * or, as after one of several branches of `Promise.all`, only steps that are open. The two look the same from here. In
 * the first case a turn given up too early leaves the run where it is, perhaps for ever; in the second one waiting costs
 * a request that is held for longer. A second is enough for most of what is awaited by mistake, and is less than the
 * engine waits for signs of life.
 */
const QUIET_MS = 1_000

/** Of a function that was late once: this many times what it took then... */
const LATE_FACTOR = 2

/** ...and no longer than this. What takes longer belongs into a step. */
const MAX_LATE_MS = 10_000

/** The patience of one `serve` with its functions. */
export class Patience {
  readonly #lateMs = new WeakMap<DurableFunction, number>()

  /**
   * How long to wait before a handler is taken for one that waits for its open steps, in milliseconds.
   * @param hasAsked whether its last sign was to ask for a step: then it most likely awaits that, and no time is lost
   */
  durationMs(definition: DurableFunction, hasAsked: boolean): number {
    return Math.max(hasAsked ? 0 : QUIET_MS, this.#lateMs.get(definition) ?? 0)
  }

  /** A handler went on this long after its last sign, when its turn had been given up: the next turns wait for it. */
  noteLate(definition: DurableFunction, afterMs: number): void {
    const lateMs = Math.min(MAX_LATE_MS, afterMs * LATE_FACTOR)
    this.#lateMs.set(definition, Math.max(lateMs, this.#lateMs.get(definition) ?? 0))
  }
}
