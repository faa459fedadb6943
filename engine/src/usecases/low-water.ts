/*
 * How far the head of an index has been worked off. Rows are taken in order of an instant and deleted; until vacuum
 * removes them, and it cannot while any snapshot is open, whoever reads from the head walks over all that were there: 8 ms
 * per 100,000. So reading begins at the mark, a little behind where the last one ended. The mark is only speed: what lies
 * behind it all the same is found by a sweep from the head.
 */
import type { WorkspaceId } from '../core/ids.ts'

/** A transaction that stamped a row before the mark may commit after it: so long after, it is found at once. */
const SLACK_MS = 500
/** Sweeps are at least that far apart, and take at most a twentieth of the time. */
const SWEEP_MS = 1_000
const SWEEP_SHARE = 20
const SWEEP_PAUSE_MAX_MS = 5_000

interface Mark {
  fromMs: number
  nextSweepAt: number
  /** The earliest row that has come since the last reading began, which it may not have seen. */
  lowestMs: number
}

export class LowWater {
  readonly #marks = new Map<WorkspaceId, Mark>()

  /**
   * Reads from the mark, or sweeps when it is time to.
   * @param read with the instant (database's clock, Unix milliseconds) to begin at, null for the head; gives the instant before
   *   which nothing is left, as far as it saw
   */
  async read<Result>(
    ws: WorkspaceId,
    read: (fromMs: number | null) => Promise<{ result: Result; leftFromMs: number }>,
  ): Promise<Result> {
    const mark = this.#marks.get(ws) ?? { fromMs: 0, nextSweepAt: 0, lowestMs: Number.NEGATIVE_INFINITY }
    this.#marks.set(ws, mark)
    const startedAt = performance.now()
    const isSweep = mark.lowestMs < mark.fromMs || startedAt >= mark.nextSweepAt
    const lowestMs = mark.lowestMs
    mark.lowestMs = Number.POSITIVE_INFINITY
    const { result, leftFromMs } = await read(isSweep ? null : mark.fromMs).catch(error => {
      this.lower(ws, lowestMs)
      throw error
    })
    const endedAt = performance.now()
    mark.fromMs = leftFromMs - SLACK_MS
    if (!isSweep) return result
    const pauseMs = Math.min(SWEEP_PAUSE_MAX_MS, (endedAt - startedAt) * SWEEP_SHARE)
    mark.nextSweepAt = endedAt + Math.max(SWEEP_MS, pauseMs)
    return result
  }

  /** There is a row at this instant now. */
  lower(ws: WorkspaceId, atMs: number): void {
    const mark = this.#marks.get(ws)
    if (mark !== undefined) mark.lowestMs = Math.min(mark.lowestMs, atMs)
  }
}
