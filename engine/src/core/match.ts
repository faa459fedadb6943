/*
 * Waits match events by hash. A wait on `{ userId: 7 }` for `approval` has the shape ["userId"] and stores the hash of
 * (name, paths, values). The shapes in use per event name are known, so an arriving event computes one hash per shape
 * and finds its waits in an index, however many there are.
 */
import { createHash } from 'node:crypto'
import type { Event, Json, Match } from '@stepwell/protocol'

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
export function eventHash(event: Event, paths: readonly string[]): string | null {
  const values = scalarsAt(event, paths)
  return values === null ? null : hash(event.name, paths, values)
}

/** The hash of a wait for a message by name. `stepwell.signal_hash` makes the same. */
export function signalHash(name: string): string {
  return toUuid(JSON.stringify(['signal', name]))
}

/** A message's id as a uuid. */
export function messageUuid(id: string): string {
  return toUuid(JSON.stringify(['message', id]))
}

/** The hash of a watch for an event that cancels a run: apart from those of waits, because one event may do both. */
export function cancelHash(eventName: string, paths: readonly string[], values: readonly unknown[]): string {
  return toUuid(JSON.stringify(['cancel', eventName, paths, values]))
}

/** The hash of an event under the paths of a cancelling rule; null as for `eventHash`. */
export function cancelEventHash(event: Event, paths: readonly string[]): string | null {
  const values = scalarsAt(event, paths)
  return values === null ? null : cancelHash(event.name, paths, values)
}

/** The scalars of an event at some paths; null when one is missing or is no scalar. */
export function scalarsAt(event: { data: Json }, paths: readonly string[]): unknown[] | null {
  const values: unknown[] = []
  for (const path of paths) {
    const value = readPath(event, path)
    if (value === undefined || (typeof value === 'object' && value !== null)) return null
    values.push(value)
  }
  return values
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
  return toUuid(JSON.stringify([name, paths, values]))
}

/** The first 128 bits of a SHA-256. */
function toUuid(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`
}
