/** What is known about one key of a run. */
import type { Ask, Recorded, SettlingEntry } from './ask.ts'

/** Everything about one key. */
export interface Slot {
  readonly key: string
  recorded: Recorded | null
  settledBy: SettlingEntry | null
  /** The journal waits for something under this key: a sleep, a wait, or the end of a back-off. */
  isOpen: boolean
  /** When the open sleep or back-off should be over, in milliseconds of this process's monotonic clock. */
  dueAtMs: number | null
  failedAttempts: number
  /** When its first attempt began, in Unix milliseconds of the engine's clock; null before that one has failed. */
  firstStartedAtMs: number | null
  ask: Ask | null
  isPending: boolean
  /** The turn has taken it up: its body is queued or runs, or its op is on the way. */
  isTaken: boolean
  /** The JSON text of the output that this process sent: an acknowledgement does not repeat it. */
  sentText: string | undefined
  /** The handler has been left: nobody waits for this any more, and nothing more is done about it. */
  isAbandoned: boolean
}

/** Of a key of which nothing is known. */
export function newSlot(key: string): Slot {
  return {
    key,
    recorded: null,
    settledBy: null,
    isOpen: false,
    dueAtMs: null,
    failedAttempts: 0,
    firstStartedAtMs: null,
    ask: null,
    isPending: false,
    isTaken: false,
    sentText: undefined,
    isAbandoned: false,
  }
}
