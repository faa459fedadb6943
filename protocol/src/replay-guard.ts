/**
 * Remembers the ids of accepted messages, so that a recorded one cannot be played back (SPEC.md 2.4).
 *
 * Two generations of a set: ids go into the young one, and are looked for in both. When the young one is old or full
 * it becomes the old one, and what was old is forgotten at once, without walking it. So an id is remembered for at
 * least `MEMORY_MS` unless more than half of `max` other ids came in that time, and memory is bounded by `max` ids.
 */
import { LIMITS } from './limits.ts'

/**
 * A message may arrive as early as the tolerance before its timestamp, and be played back until as long after it. Both
 * are whole seconds, rounded down: up to one second more.
 */
const MEMORY_MS = (2 * LIMITS.toleranceSeconds + 1) * 1000

export interface ReplayGuard {
  /** False when the id was accepted before: a replay. `nowMs` is Unix time in milliseconds. */
  accept(id: string, nowMs: number): boolean
}

/**
 * A memory of accepted message ids. Ask it only about messages whose signature is right: others would fill it.
 * @param options `max`: how many ids are kept at most
 */
export function createReplayGuard(options: { max?: number } = {}): ReplayGuard {
  const perGeneration = Math.max(1, Math.floor((options.max ?? 200_000) / 2))
  let young = new Set<string>()
  let old = new Set<string>()
  let bornAtMs = Number.NEGATIVE_INFINITY

  return {
    accept(id, nowMs) {
      if (nowMs - bornAtMs >= MEMORY_MS || young.size >= perGeneration) {
        // After a long silence the young ones are past their time too.
        old = nowMs - bornAtMs >= 2 * MEMORY_MS ? new Set() : young
        young = new Set()
        bornAtMs = nowMs
      }
      if (young.has(id) || old.has(id)) return false
      young.add(id)
      return true
    },
  }
}
