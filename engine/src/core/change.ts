import type { EntryType, Match, NewEvent, Tags } from '@stepwell/protocol'
import type { Trouble } from './happening.ts'

/** What a decision may ask the store to write. The store gives entries their `seq`: dense, in this order. */
export type Change =
  | RecordChange
  /** Open an interest in time or in an event. `dueAtMs` is Unix time by the database's clock. */
  | { kind: 'open_wait'; wait: 'sleep'; key: string; dueAtMs: number }
  /** `why` says for people what has failed. */
  | { kind: 'open_wait'; wait: 'retry'; key: string; dueAtMs: number; why: string }
  | { kind: 'open_wait'; wait: 'event'; key: string; dueAtMs: number | null; event: string; match: Match }
  | { kind: 'open_wait'; wait: 'signal'; key: string; dueAtMs: number | null; signal: string }
  /** `label` says for people what is waited for. */
  | { kind: 'open_wait'; wait: 'child'; key: string; dueAtMs: number | null; label: string }
  | StartRunChange
  /** The run has a step that wants to be undone when the run is cancelled. */
  | { kind: 'want_undo' }
  /** JSON text. */
  | { kind: 'set_status'; status: string }
  | { kind: 'set_tags'; tags: Tags }
  /** A message to whoever follows the run. `data` is JSON text. */
  | { kind: 'publish'; channel: string; data: string }
  | { kind: 'send_events'; key: string; events: (NewEvent & { id: string })[] }
  | SettleChange

/** One journal line. `settles`: it is the one entry that settles its key. */
export interface RecordChange {
  kind: 'record'
  type: EntryType
  key: string
  saw: number
  settles: boolean
  /** JSON text; null for none. */
  data: string | null
  startedMs?: number | undefined
  durationMs?: number | undefined
}

/** Start another run, child of this one. */
export interface StartRunChange {
  kind: 'start_run'
  runId: string
  function: string
  /** The event that it starts with, as JSON text. */
  event: string
  /** The wait of this run that its end resumes; null when nobody waits for it. */
  key: string | null
  /** Cancelling this run cancels it too. */
  isCancelledWith: boolean
}

/** Exactly one per decision: how the turn goes on, or how it ends. */
export type SettleChange =
  | { kind: 'settle'; step: 'running' | 'waiting' | 'continue' }
  /** The same run goes on as its next generation, with an empty journal and this event (JSON text). */
  | { kind: 'settle'; step: 'next_generation'; event: string; unread: string[] }
  | { kind: 'settle'; step: 'trouble'; trouble: Trouble; resendMs: number }
  | {
      kind: 'settle'
      step: 'done'
      state: 'completed' | 'failed' | 'cancelled' /* JSON texts */
      output: string | null
      error: string | null
    }
