/** What a handler asks for through `step.*`: one ask per call, answered once by an entry of the journal. */
import type { Entry, Match, SETTLING_TYPES } from '@stepwell/protocol'
import type { BodyLimits } from './body-watch.ts'
import type { RetryRules } from './retries.ts'
import type { StandardSchema } from './standard-schema.ts'
import type { BodyExecution } from './step-body.ts'
import type { StepPromise } from './step-promise.ts'

/** The body of a step: the function that `step.run` was given, which knows its execution as a `StepContext`; or one of ours. */
export type StepBody = (execution: BodyExecution) => unknown

/** What is asked, by kind. A key belongs to one kind for the whole life of a run. */
export type Wanted =
  | StepWanted
  /** `askedAtMs`: monotonic. The sleep counts from there, however long it takes until it is recorded. */
  | { kind: 'sleep'; ms: number; askedAtMs: number }
  | { kind: 'sleep'; until: string }
  | { kind: 'wait'; event: string; match: Match; timeoutMs: number | undefined; schema: StandardSchema | undefined }
  /** `eventsText` is the JSON text of the array: what is sent is what was passed at the time of the call. */
  | { kind: 'send'; eventsText: string }
  | { kind: 'receive'; signal: string; timeoutMs: number | undefined }
  /** `dataText` is JSON, as it was at the time of the call. */
  | { kind: 'publish'; channel: string; dataText: string }
  | InvokeWanted

/** A step with a body. `undo` runs when the run fails or is cancelled after the step has completed. */
export interface StepWanted {
  kind: 'step'
  body: StepBody
  retries: RetryRules
  /** Absent for a body that may take as long as it takes. */
  limits?: BodyLimits | undefined
  undo?: UndoBody | undefined
}

/** What takes the effect of a step back: it gets the step's recorded output. */
export type UndoBody = (output: never, execution: BodyExecution) => unknown

/** Another function, to be started as a child. `dataText` is JSON, as it was at the time of the call. */
export interface InvokeWanted {
  kind: 'invoke'
  function: string
  dataText: string | undefined
  timeoutMs: number | undefined
  onCancel: 'cancel' | 'abandon'
  isDetached: boolean
}

/** One call of `step.*`. */
export interface Ask {
  wanted: Wanted
  /** How many entries had been applied when the handler asked: the cause of this ask. */
  saw: number
  promise: StepPromise
  resolve: (value: unknown) => void
  reject: (error: Error) => void
}

/** Entries that end the life of a key. At most one per key. */
export type SettlingEntry = Extract<Entry, { type: (typeof SETTLING_TYPES)[number] }>

/** What the journal knows a key as: the op that was recorded under it. */
export type Recorded =
  | { kind: 'step' }
  | { kind: 'sleep' }
  | { kind: 'wait'; event: string; match: Match }
  | { kind: 'send' }
  /** The channel is in the key. */
  | { kind: 'publish' }
  | { kind: 'receive'; signal: string }
  /** `function` is null where only the failure to start it is recorded. */
  | { kind: 'invoke'; function: string | null }

/** Shown where an ask is named in messages. */
export function describeRecorded(recorded: Recorded): string {
  if (recorded.kind === 'receive') return `${CALLS.receive} for "${recorded.signal}"`
  if (recorded.kind === 'invoke' && recorded.function !== null) return `${CALLS.invoke} of "${recorded.function}"`
  if (recorded.kind !== 'wait') return CALLS[recorded.kind]
  return `${CALLS.wait} for "${recorded.event}" with match ${JSON.stringify(recorded.match)}`
}

/** Whether a handler asks for the same thing as the journal has under this key. Arguments of sleeps are not compared. */
export function isSameAsk(recorded: Recorded, wanted: Wanted): boolean {
  if (recorded.kind !== wanted.kind) return false
  if (recorded.kind === 'receive' && wanted.kind === 'receive') return recorded.signal === wanted.signal
  if (recorded.kind === 'invoke' && wanted.kind === 'invoke') {
    return recorded.function === null || recorded.function === wanted.function
  }
  if (recorded.kind !== 'wait' || wanted.kind !== 'wait') return true
  return recorded.event === wanted.event && isSameMatch(recorded.match, wanted.match)
}

const CALLS = {
  step: 'step.run',
  sleep: 'step.sleep',
  wait: 'step.waitForEvent',
  send: 'step.sendEvent',
  publish: 'step.publish',
  receive: 'step.waitForSignal',
  invoke: 'step.invoke',
} as const

function isSameMatch(a: Match, b: Match): boolean {
  const paths = Object.keys(a)
  return paths.length === Object.keys(b).length && paths.every(path => Object.hasOwn(b, path) && a[path] === b[path])
}
