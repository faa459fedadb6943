import { createHash } from 'node:crypto'
import { LIMITS } from '@stepwell/protocol'

/** The id of an event that a step sends: the same whenever that step of that run is recorded, and as long as an id may be. */
export function sentEventId(run: { runId: string; generation: number }, key: string, index: number): string {
  const id = `${run.runId}:${run.generation}:${key}:${index}`
  if (id.length <= LIMITS.eventIdChars) return id
  const digest = createHash('sha256').update(key).digest('hex')
  return `${run.runId}:${run.generation}:${digest}:${index}`
}
