import type { WireError } from './error.ts'
import type { Entry } from './journal.ts'
import type { Json } from './json.ts'
import type { Tags } from './turn.ts'

/** A run's states, everywhere. What a waiting run waits for is said in words by `waitingFor`. */
export const RUN_STATES = ['queued', 'running', 'waiting', 'paused', 'completed', 'failed', 'cancelled'] as const

export type RunState = (typeof RUN_STATES)[number]

/** Whether a run in this state has ended. */
export function isFinalState(state: RunState): boolean {
  return state === 'completed' || state === 'failed' || state === 'cancelled'
}

/** `GET /v1/runs/{id}`. */
export interface RunView {
  /** `run_` and 26 characters. */
  id: string
  function: string
  /** The version of the function that it began with. */
  version: number
  state: RunState
  /** The handler's return value, when completed. */
  output: Json
  /** Why it failed, when failed. */
  error: WireError | null
  /** One sentence per open wait, or about the app when it does not answer; null when the run waits for nothing. */
  waitingFor: string | null
  /** What the handler said of itself last (`step.setStatus`); null when it said nothing. */
  status: Json
  /** Names and values by which the run is found. */
  tags: Tags
  /** The run that invoked it; null when an event did. */
  parent: string | null
  /** How many executions of steps are recorded, failed ones included. */
  attempts: number
  generation: number
  createdAt: string
  finishedAt: string | null
}

/** What becomes of a message to a run. */
export interface SignalAnswer {
  /** The message's id. One that is sent again under its id is the same message. */
  id: string
}

/** A token with which a web page follows one run. It is no key: it reads this run's messages, for a while. */
export interface StreamTokenAnswer {
  token: string
  /** ISO 8601. */
  expiresAt: string
}

/** `POST /v1/runs/{id}/cancel`: the run as it was when that was recorded. It ends as soon as what is to be undone is. */
export interface CancelAnswer {
  run: string
  state: RunState
}

/** `GET /v1/runs`: newest first; `next` is the cursor of the next page. */
export interface RunList {
  runs: RunView[]
  next: string | null
}

/** `GET /v1/runs/{id}/journal`. */
export interface JournalView {
  run: string
  generation: number
  entries: JournalEntryView[]
  /** Pass as `?after=` for the next page; null on the last. */
  next: number | null
}

/** An entry and, for one execution of a step, when its body started within the turn and how long it took (ms). */
export type JournalEntryView = Entry & { startedMs?: number; durationMs?: number }
