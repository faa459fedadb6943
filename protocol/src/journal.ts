import type { WireError } from './error.ts'
import type { Event } from './event.ts'
import type { Json } from './json.ts'

/**
 * One line of a run's journal: something that reached the run, in the order in which it reached it. Replay applies
 * entries one at a time in the order of `seq`, and lets the handler run as far as it can after each.
 */
export type Entry = { [T in EntryType]: EntryHead & { type: T } & EntryBody[T] }[EntryType]

export type EntryType = keyof EntryBody

export interface EntryHead {
  /** Dense from 1 within a generation, assigned by the lease holder at delivery. */
  seq: number
  /** The turn in which the entry was delivered, from 1. */
  turn: number
  /** When it was delivered, ISO 8601: the run's clock during the replay of this entry. */
  at: string
}

/** The key of the op that asked, and how much of the journal its handler had seen when it asked: its cause. */
export interface Asked {
  key: string
  saw: number
}

export interface EntryBody {
  /** Always seq 1: the event that started the run. */
  run_started: { data: Event }
  /** `data` is the recorded output; absent when the step returned undefined. It never changes. */
  step_completed: Asked & { data?: Json }
  /** The step's last attempt failed: the handler sees the error. */
  step_failed: Asked & { data: { error: WireError; attempt: number } }
  /** An attempt failed and another follows, not before `dueAt`. The handler sees nothing. `durationMs`: of the body, if its op told. */
  step_retrying: Asked & { data: { error: WireError; attempt: number; dueAt: string; durationMs?: number } }
  /** The back-off is over: the step may run again. */
  step_due: { key: string }
  sleep_started: Asked & { data: { until: string } }
  sleep_completed: { key: string }
  wait_opened: Asked & { data: { event: string; match?: Match; expiresAt?: string } }
  wait_matched: { key: string; data: Event }
  wait_expired: { key: string }
  /** The events are stored and what they start is started, in the transaction that recorded this. */
  events_sent: Asked & { data: { ids: string[] } }
  /** The message is stored, in the transaction that recorded this. What it says is not repeated here. */
  published: Asked & { data: { channel: string } }
  signal_awaited: Asked & { data: { signal: string; expiresAt?: string } }
  /** `data` has the shape of an event: the message's id, its name, what it carries, and when it was received. */
  signal_received: { key: string; data: Event }
  signal_expired: { key: string }
  /** `run` is the child's id. */
  child_started: Asked & { data: { run: string; function: string; expiresAt?: string } }
  /** `data` is the child's output; absent when it returned undefined. */
  child_completed: { key: string; data?: Json }
  /** The child has failed or was cancelled, or could not be started: then no `child_started` precedes it, and it has a `saw`. */
  child_failed: { key: string; saw?: number; data: { error: WireError } }
  child_expired: { key: string }
  /** Started, and nobody waits for it. */
  child_detached: Asked & { data: { run: string; function: string } }
  /** Somebody wants the run to end. The handler goes no further; what is to be undone is undone. */
  cancel_requested: { data: CancelReason }
}

/** Why a run is cancelled, for people and for `onCancel`. */
export interface CancelReason {
  /** `requested` by somebody, by an `event` (cancelOn), with its `parent`, or because it took too long to start or to finish. */
  by: 'request' | 'event' | 'parent' | 'start_timeout' | 'finish_timeout'
  /** What was said, or what happened. */
  message: string
}

/** Entries that settle their key: at most one per key, and it never changes. */
export const SETTLING_TYPES = [
  'step_completed',
  'step_failed',
  'sleep_completed',
  'wait_matched',
  'wait_expired',
  'events_sent',
  'published',
  'signal_received',
  'signal_expired',
  'child_completed',
  'child_failed',
  'child_expired',
  'child_detached',
] as const satisfies readonly EntryType[]

/** Paths into an event's data (from the event's root when they start with `event.`), and the scalar each must equal. */
export interface Match {
  [path: string]: string | number | boolean | null
}
