import type { EntryType, Match, NewEvent } from '@stepwell/protocol'
import type { Trouble } from './happening.ts'

/** What a decision may ask the store to write. The store gives entries their `seq`: dense, in this order. */
export type Change =
  | RecordChange
  /** Open an interest in time or in an event. `dueAtMs` is Unix time by the database's clock. */
  | { kind: 'open_wait'; wait: 'sleep' | 'retry'; key: string; dueAtMs: number }
  | { kind: 'open_wait'; wait: 'event'; key: string; dueAtMs: number | null; event: string; match: Match }
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

/** Exactly one per decision: how the turn goes on, or how it ends. */
export type SettleChange =
  | { kind: 'settle'; step: 'running' | 'waiting' | 'continue' }
  | { kind: 'settle'; step: 'trouble'; trouble: Trouble; resendMs: number }
  | {
      kind: 'settle'
      step: 'done'
      state: 'completed' | 'failed' /* JSON texts */
      output: string | null
      error: string | null
    }
