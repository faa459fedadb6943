/**
 * Checks entries that come from the engine, by hand: this runs over whole journals on every turn, and must neither cost
 * nor throw. Only what the SDK reads is checked.
 */
import type { Entry } from '@stepwell/protocol'

/**
 * What is wrong with a list of entries: a path and a message; null when nothing is.
 * @param path of the list in the body
 */
export function findBadEntry(entries: unknown, path: string): { path: string; message: string } | null {
  if (!Array.isArray(entries)) return { path, message: 'must be an array' }
  for (let at = 0; at < entries.length; at += 1) {
    const message = problemOfEntry(entries[at])
    if (message !== null) return { path: `${path}[${at}]`, message }
  }
  return null
}

/** Whether a value is an object that is no array. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Types of entries and what their `data` must have; null where the SDK does not look into it. */
const DATA_OF: Record<Entry['type'], ((data: Record<string, unknown>) => boolean) | null> = {
  run_started: isEvent,
  step_completed: null,
  step_failed: data => isWireError(data.error) && typeof data.attempt === 'number',
  step_retrying: data => isWireError(data.error) && typeof data.attempt === 'number' && isInstant(data.dueAt),
  step_due: null,
  sleep_started: data => isInstant(data.until),
  sleep_completed: null,
  wait_opened: data => typeof data.event === 'string' && (data.match === undefined || isRecord(data.match)),
  wait_matched: isEvent,
  wait_expired: null,
  events_sent: data => Array.isArray(data.ids),
  published: data => typeof data.channel === 'string',
  signal_awaited: data => typeof data.signal === 'string',
  signal_received: isEvent,
  signal_expired: null,
  child_started: isChild,
  child_completed: null,
  child_failed: data => isWireError(data.error),
  child_expired: null,
  child_detached: isChild,
  cancel_requested: data => typeof data.message === 'string',
}

function problemOfEntry(entry: unknown): string | null {
  if (!isRecord(entry)) return 'must be an object'
  const { seq, at, type, key, data } = entry
  if (typeof seq !== 'number' || !Number.isInteger(seq) || seq < 1) return 'has no seq'
  if (typeof at !== 'string' || !isInstant(at)) return 'has no instant in "at"'
  if (typeof type !== 'string' || !Object.hasOwn(DATA_OF, type)) return 'has a type that this SDK does not know'
  if (!WITHOUT_KEY.has(type) && (typeof key !== 'string' || key === '')) return 'has no key'
  const hasGoodData = DATA_OF[type as Entry['type']]
  if (hasGoodData === null) return null
  return isRecord(data) && hasGoodData(data) ? null : `has no data that fits ${type}`
}

/** Entries about the run, and not about an op. */
const WITHOUT_KEY: ReadonlySet<string> = new Set(['run_started', 'cancel_requested'])

function isChild(data: Record<string, unknown>): boolean {
  return typeof data.run === 'string' && typeof data.function === 'string'
}

function isEvent(value: Record<string, unknown>): boolean {
  return typeof value.name === 'string' && typeof value.id === 'string' && 'data' in value
}

/** An error of the wire, down to its innermost cause. */
function isWireError(value: unknown): boolean {
  let error = value
  for (let depth = 0; depth < MAX_CAUSES; depth += 1) {
    if (!isRecord(error)) return false
    if (typeof error.name !== 'string' || typeof error.message !== 'string') return false
    if (error.stack !== undefined && typeof error.stack !== 'string') return false
    if (error.code !== undefined && typeof error.code !== 'string') return false
    if (error.cause === undefined) return true
    error = error.cause
  }
  return false
}

/** More than the wire allows, and few enough to walk. */
const MAX_CAUSES = 64

function isInstant(value: unknown): boolean {
  return typeof value === 'string' && !Number.isNaN(Date.parse(value))
}
