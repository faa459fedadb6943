import type { WireError } from './error.ts'
import type { NewEvent } from './event.ts'
import type { Asked, Match } from './journal.ts'
import type { Json } from './json.ts'

/** What an app asks for. Keyed by name, never by position; a key that the journal knows already is not recorded again. */
export type Op = StepOp | SleepOp | WaitOp | SendOp | ReceiveOp | InvokeOp | PublishOp | EndOp

/** What ends a run, or its generation. Always the last op of its report. */
export type EndOp = FinishOp | FailOp | CancelledOp | ContinueAsNewOp

/** One execution of a step: its output, or its error and what should follow. */
export interface StepOp extends Asked {
  op: 'step'
  /** From 1. Infrastructure failures do not count. */
  attempt: number
  /** The step's value when it did not throw; absent for undefined. */
  output?: Json
  /** Present when the step threw. */
  error?: WireError
  /** With `error`: try again by this policy. Absent: do not try again. */
  retry?: RetryPolicy
  /** From the arrival of the turn to the start of the body, and how long the body took: monotonic, in milliseconds. */
  startedMs?: number
  durationMs?: number
  /** The app has something to do about this step when the run is cancelled: it gets a turn for that. */
  undo?: true
}

/** Exponential with jitter: after attempt n, `minDelayMs * factor^(n-1)`, at most `maxDelayMs`, times 0.5 to 1. */
export interface RetryPolicy {
  /** How many attempts in all. */
  maxAttempts: number
  minDelayMs: number
  maxDelayMs: number
  /** 1 to 10; 2 when absent. 1 waits the same each time. */
  factor?: number
  /** Wait this long instead, as the step asked. */
  afterMs?: number
}

/** Exactly one of `ms` and `until` (ISO 8601). */
export interface SleepOp extends Asked {
  op: 'sleep'
  ms?: number
  until?: string
  /** How long ago the handler asked, by a monotonic clock, in milliseconds: `ms` counts from there. */
  ageMs?: number
}

export interface WaitOp extends Asked {
  op: 'wait'
  event: string
  match?: Match
  timeoutMs?: number
}

export interface SendOp extends Asked {
  op: 'send'
  events: NewEvent[]
}

/** The next message to this run under that name: the oldest that nobody has received, or one that comes. */
export interface ReceiveOp extends Asked {
  op: 'receive'
  signal: string
  timeoutMs?: number
}

/** A child run, started with `data`: of a function of the same workspace, or (`billing/charge`) of another app of the environment. */
export interface InvokeOp extends Asked {
  op: 'invoke'
  function: string
  /** What the child's event carries; `{}` when absent. */
  data?: Json
  /** How long to wait for its end. The child goes on after that. */
  timeoutMs?: number
  /** What becomes of the child when this run is cancelled; `cancel` when absent. */
  onCancel?: 'cancel' | 'abandon'
  /** Start it and do not wait: the key is settled with the child's id. */
  detached?: true
}

/** A message to whoever follows the run from outside. The key is `publish:` and the channel, numbered like every other. */
export interface PublishOp extends Asked {
  op: 'publish'
  channel: string
  /** At most `LIMITS.publishBytes`. */
  data: Json
}

/** The handler returned. `output` is absent for undefined. */
export interface FinishOp {
  op: 'finish'
  output?: Json
}

/** The handler threw: the run has failed. */
export interface FailOp {
  op: 'fail'
  error: WireError
}

/** The run was asked to be cancelled, and what the app had to do about that is done. */
export interface CancelledOp {
  op: 'cancelled'
}

/** The handler wants to go on as a new generation of the same run: a fresh journal, started with `input`. */
export interface ContinueAsNewOp {
  op: 'continue_as_new'
  /** The data of the event that the next generation starts with; `{}` when absent. */
  input?: Json
  /** Keys of messages and events that have reached the run and that the handler has not had: they are as if they had not come. */
  unread?: string[]
}

/** Whether an op ends its generation. */
export function isEndOp(op: Op): op is EndOp {
  return !('key' in op)
}
