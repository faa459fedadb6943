import type { CancelReason, ErrorCode, Report, WireError } from '@stepwell/protocol'

/** The closed list of things that can move a leased run. */
export type Happening =
  /** The app reported, during the turn or as its response. */
  | { kind: 'report'; report: Report; isResponse: boolean }
  /** What has reached the run is more than a run may hold: no app will be asked to take it. */
  | { kind: 'over_limit'; error: WireError }
  /** Somebody wants the run to end, and the app has nothing to do about it. */
  | { kind: 'cancelled'; reason: CancelReason }
  /** The app did not answer as it should. `dice` is a random number from 0 to 1. */
  | { kind: 'no_answer'; code: ErrorCode; message: string; dice: number }

/** What is known about an app that does not answer: kept with the run, shown in words, the base of the back-off. */
export interface Trouble {
  code: ErrorCode
  message: string
  /** Dispatches in a row without an answer. */
  attempts: number
  /** ISO 8601. */
  since: string
}
