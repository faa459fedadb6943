/** What entries of the journal mean to a handler: which ask they record, and what they give it. */
import type { Entry } from '@stepwell/protocol'
import type { Recorded, SettlingEntry } from './ask.ts'
import { StepError } from './errors.ts'
import { fromWireError } from './wire-error.ts'

/** When entries arrived: this process's monotonic clock, and the engine's clock at the last entry that came with them. */
export interface Arrival {
  nowMs: number
  at: string
}

/** What is recorded under a key by the entry that an op leaves; null for entries that follow from something else. */
export function recordedBy(entry: Entry): Recorded | null {
  switch (entry.type) {
    case 'step_completed':
    case 'step_failed':
    case 'step_retrying':
      return { kind: 'step' }
    case 'sleep_started':
      return { kind: 'sleep' }
    case 'wait_opened':
      return { kind: 'wait', event: entry.data.event, match: entry.data.match ?? {} }
    case 'events_sent':
      return { kind: 'send' }
    case 'published':
      return { kind: 'publish' }
    case 'signal_awaited':
      return { kind: 'receive', signal: entry.data.signal }
    case 'child_started':
    case 'child_detached':
      return { kind: 'invoke', function: entry.data.function }
    case 'child_failed':
      // Where it could not be started, nothing came before this.
      return { kind: 'invoke', function: null }
    default:
      return null
  }
}

/** What the handler gets from an entry that settles. */
export function readValue(entry: SettlingEntry, sentText: string | undefined): unknown {
  switch (entry.type) {
    case 'step_completed':
      if (entry.data !== undefined || sentText === undefined) return entry.data
      // The live value is read back from the text that was recorded, so that it equals the one of every replay.
      return JSON.parse(sentText)
    case 'events_sent':
      return entry.data.ids
    case 'wait_expired':
    case 'signal_expired':
      return null
    case 'signal_received':
      return entry.data
    case 'child_completed':
      return entry.data
    case 'child_detached':
      return { run: entry.data.run }
    default:
      return undefined
  }
}

/** What the handler gets from an entry that fails a step. */
export function stepError(entry: Extract<SettlingEntry, { type: 'step_failed' }>): StepError {
  const { error, attempt } = entry.data
  const cause = error.cause === undefined ? undefined : fromWireError(error.cause)
  return new StepError({ ...error, cause, step: entry.key, attempts: attempt })
}

/** What a child failed with is what its parent sees, with the step that invoked it. */
export function childError(entry: Extract<SettlingEntry, { type: 'child_failed' }>): StepError {
  const { error } = entry.data
  const cause = error.cause === undefined ? undefined : fromWireError(error.cause)
  return new StepError({ ...error, cause, step: entry.key, attempts: 1 })
}

/** Both instants are the engine's: their difference is free of this machine's clock. */
export function dueAtMs(due: string, arrival: Arrival): number {
  return arrival.nowMs + Date.parse(due) - Date.parse(arrival.at)
}
