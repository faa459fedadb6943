/*
 * What a function says about all of its runs: by which events they are cancelled, how long they may take, by what they are
 * found. It is read when a run starts, and stays as it was then.
 */
import type { Event, FunctionDescription, Tags } from '@stepwell/protocol'
import { LIMITS } from '@stepwell/protocol'
import { cancelHash, scalarsAt } from './match.ts'

/** An open interest that ends its run. Keys have a control character, which no key of an op has. */
export interface Watch {
  key: string
  kind: 'cancel' | 'deadline'
  /** From the start of the run; null for an event. */
  dueMs: number | null
  /** The event's name, or which time-out. */
  event: string
  hash: string | null
}

/** The watches of a run that starts with this event. A rule whose path the event does not have cancels nothing. */
export function watchesOf({ timeouts, cancelOn }: FunctionDescription, event: Event): Watch[] {
  const watches: Watch[] = []
  const deadline = (which: string, dueMs: number | undefined) => {
    if (dueMs !== undefined) watches.push({ key: `\u0001${which}`, kind: 'deadline', dueMs, event: which, hash: null })
  }
  deadline('start_timeout', timeouts?.startMs)
  deadline('finish_timeout', timeouts?.finishMs)
  for (const [at, rule] of (cancelOn ?? []).entries()) {
    const paths = pathsOf(rule)
    const values = scalarsAt(
      event,
      paths.map(path => rule.match?.[path] ?? path),
    )
    if (values === null) continue
    const hash = cancelHash(rule.event, paths, values)
    watches.push({ key: `\u0001cancel_${at}`, kind: 'cancel', dueMs: null, event: rule.event, hash })
  }
  return watches
}

/** When the first time-out of runs that start now is due, in milliseconds from now; null when they have none. */
export function firstDueMs(watches: Iterable<Watch>): number | null {
  let first: number | null = null
  for (const { dueMs } of watches) if (dueMs !== null && (first === null || dueMs < first)) first = dueMs
  return first
}

/** The paths of a cancelling rule in the event that cancels, sorted. */
export function pathsOf(rule: { match?: { [path: string]: string } }): string[] {
  return Object.keys(rule.match ?? {}).sort()
}

/** The tags that a run starts with; null for none. A path that the event does not have gives none. */
export function tagsOf({ tags = {} }: FunctionDescription, event: Event): Tags | null {
  const found: [string, string][] = []
  for (const [name, path] of Object.entries(tags)) {
    const value = scalarsAt(event, [path])?.[0]
    if (value === undefined || value === null) continue
    // What a tag cannot hold is left out of it: control characters, and halves of surrogate pairs.
    const text = Array.from(String(value).replace(/[\p{Cc}\p{Cs}]/gu, ''))
      .slice(0, LIMITS.tagValueChars)
      .join('')
    if (text !== '') found.push([name, text])
  }
  return found.length === 0 ? null : Object.fromEntries(found)
}
