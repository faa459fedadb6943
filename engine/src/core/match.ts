/*
 * Waits match events by hash. A wait on `{ userId: 7 }` for `approval` has the shape ["userId"] and stores the hash of
 * (name, paths, values). The shapes in use per event name are known, so an arriving event computes one hash per shape
 * and finds its waits in an index, however many there are.
 */
import { createHash } from 'node:crypto'
import type { Json, Match } from '@stepwell/protocol'

/** The paths of a match, sorted: what waits of one shape have in common. */
export function shapeOf(match: Match): string[] {
  return Object.keys(match).sort()
}

/** The hash of a wait, as a uuid: 128 bits of SHA-256. */
export function waitHash(eventName: string, match: Match): string {
  const paths = shapeOf(match)
  return hash(
    eventName,
    paths,
    paths.map(path => match[path]),
  )
}

/** The hash of an event under a shape; null when it lacks one of the paths or has no scalar there: no wait can match it. */
export function eventHash(
  event: { name: string; data: Json; id: string; ts: string },
  paths: readonly string[],
): string | null {
  const values: unknown[] = []
  for (const path of paths) {
    const value = readPath(event, path)
    if (value === undefined || (typeof value === 'object' && value !== null)) return null
    values.push(value)
  }
  return hash(event.name, paths, values)
}

/** `userId` and `user.id` start at the event's data, `event.name` at the event. Array elements by index. */
function readPath(event: { data: Json }, path: string): unknown {
  const fromRoot = path.startsWith('event.')
  let value: unknown = fromRoot ? event : event.data
  for (const name of (fromRoot ? path.slice('event.'.length) : path).split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as Record<string, unknown>)[name]
  }
  return value
}

function hash(name: string, paths: readonly string[], values: readonly unknown[]): string {
  const hex = createHash('sha256')
    .update(JSON.stringify([name, paths, values]))
    .digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`
}
