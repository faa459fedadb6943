import type { CancelReason, EntryType } from '@stepwell/protocol'
import { assertNever } from './assert-never.ts'
import { byteLength } from './byte-length.ts'
import type { Trouble } from './happening.ts'

/** What a decision needs to know about a leased run. Lives in the holder's memory for the length of the turn. */
export interface Snapshot {
  runId: string
  generation: number
  turn: number
  /** By the database's clock, Unix milliseconds; set by the caller for each decision. */
  nowMs: number
  trouble: Trouble | null
  keys: Map<string, KeyState>
  /** Recorded executions of steps, failed ones included. */
  attempts: number
  journalBytes: number
  /** A step has said that it wants to be undone when the run is cancelled. */
  wantsUndo: boolean
  /** Somebody wants the run to end. */
  cancel: CancelReason | null
  /** The functions that it may invoke. */
  functions: { has(id: string): boolean }
}

export interface KeyState {
  kind: 'step' | 'sleep' | 'wait' | 'send' | 'receive' | 'invoke' | 'publish'
  /** settled: never changes again. open: an entry or a back-off is outstanding. due: a step that may run again. */
  state: 'settled' | 'open' | 'due'
  /** Executions of a step that are recorded. */
  attempts: number
}

/** Bytes that an entry takes in a journal besides its key and data: names, numbers, stamps. For the size limit. */
const ENTRY_OVERHEAD_BYTES = 100

/** Brings a snapshot up to date with one more entry of the journal. Entries come in order of seq. */
export function applyEntry(
  snapshot: Snapshot,
  entry: { type: EntryType; key: string | null; data: string | null },
): void {
  const dataBytes = byteLength(entry.data)
  snapshot.journalBytes += ENTRY_OVERHEAD_BYTES + (entry.key?.length ?? 0) + dataBytes
  if (entry.type === 'cancel_requested') snapshot.cancel ??= JSON.parse(entry.data ?? '') as CancelReason
  if (entry.key === null) return
  const known = snapshot.keys.get(entry.key)
  const attempts = known?.attempts ?? 0
  switch (entry.type) {
    case 'step_completed':
    case 'step_failed':
      snapshot.attempts += 1
      return void snapshot.keys.set(entry.key, { kind: 'step', state: 'settled', attempts: attempts + 1 })
    case 'step_retrying':
      snapshot.attempts += 1
      return void snapshot.keys.set(entry.key, { kind: 'step', state: 'open', attempts: attempts + 1 })
    case 'step_due':
      // A back-off that ended after the step was settled by an earlier attempt means nothing.
      if (known?.state === 'settled') return
      return void snapshot.keys.set(entry.key, { kind: 'step', state: 'due', attempts })
    case 'sleep_started':
      return void snapshot.keys.set(entry.key, { kind: 'sleep', state: 'open', attempts: 0 })
    case 'sleep_completed':
      return void snapshot.keys.set(entry.key, { kind: 'sleep', state: 'settled', attempts: 0 })
    case 'wait_opened':
      return void snapshot.keys.set(entry.key, { kind: 'wait', state: 'open', attempts: 0 })
    case 'wait_matched':
    case 'wait_expired':
      return void snapshot.keys.set(entry.key, { kind: 'wait', state: 'settled', attempts: 0 })
    case 'events_sent':
      return void snapshot.keys.set(entry.key, { kind: 'send', state: 'settled', attempts: 0 })
    case 'published':
      return void snapshot.keys.set(entry.key, { kind: 'publish', state: 'settled', attempts: 0 })
    case 'signal_awaited':
      return void snapshot.keys.set(entry.key, { kind: 'receive', state: 'open', attempts: 0 })
    case 'signal_received':
    case 'signal_expired':
      return void snapshot.keys.set(entry.key, { kind: 'receive', state: 'settled', attempts: 0 })
    case 'child_started':
      return void snapshot.keys.set(entry.key, { kind: 'invoke', state: 'open', attempts: 0 })
    case 'child_completed':
    case 'child_failed':
    case 'child_expired':
    case 'child_detached':
      return void snapshot.keys.set(entry.key, { kind: 'invoke', state: 'settled', attempts: 0 })
    case 'cancel_requested':
    case 'run_started':
      return
    default:
      assertNever(entry.type)
  }
}

/** A snapshot of a run whose journal is empty. */
export function newSnapshot(run: {
  runId: string
  generation: number
  turn: number
  nowMs: number
  trouble: Trouble | null
  wantsUndo: boolean
  functions: Snapshot['functions']
}): Snapshot {
  return { ...run, keys: new Map(), attempts: 0, journalBytes: 0, cancel: null }
}

/** Whether the run has something outstanding that will wake it. */
export function hasOpenKey(snapshot: Snapshot): boolean {
  for (const key of snapshot.keys.values()) if (key.state === 'open') return true
  return false
}
