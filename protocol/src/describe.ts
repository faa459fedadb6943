import type { Json } from './json.ts'

/** Engine to app: which functions are here? */
export interface Describe {
  kind: 'describe'
  workspace: string
}

export interface Description {
  kind: 'description'
  /** Language and version of the SDK: `typescript/0.1.0`. */
  sdk: string
  functions: FunctionDescription[]
}

export interface FunctionDescription {
  /** 1 to 128 of letters, digits, `.`, `_` and `-`. Unique in the app. */
  id: string
  /** The newest version that is served, and the one that new runs get; 1 when absent. */
  version?: number
  /** Older versions that are served too, for the runs that began with them. */
  olderVersions?: number[]
  /** Empty for one that only other functions start. */
  triggers: Trigger[]
  /** A run that takes longer is cancelled. `startMs`: until its first turn; `finishMs`: until its end. */
  timeouts?: { startMs?: number; finishMs?: number }
  /** Events that cancel a run. `match`: path in that event -> path in the event that started the run; the values must be equal. */
  cancelOn?: { event: string; match?: { [path: string]: string } }[]
  /** Functions of this app that are started when a run has failed, or was cancelled. */
  onFailure?: string
  onCancel?: string
  /** Tags that a run starts with: name -> path into the event that started it. */
  tags?: { [name: string]: string }
}

/** What starts a function. */
export interface Trigger {
  event: string
}

/** Engine to app, every kind. A receiver refuses kinds it does not know with 400 `kind_unknown` and the list it knows. */
export const REQUEST_KINDS = ['describe', 'turn', 'turns'] as const

/** App to engine, `POST /v1/sync`: here I am. The engine calls back with `describe` before it answers. */
export interface SyncRequest {
  /** Where the engine reaches the app's endpoint. */
  url: string
  /** Ids the sender believes it serves; the engine says so when the endpoint serves others. */
  functions?: string[]
}

export interface SyncAnswer {
  workspace: string
  url: string
  functions: { id: string; triggers: Trigger[]; change: 'added' | 'changed' | 'unchanged' }[]
  removed: string[]
  [extra: string]: Json | undefined | unknown
}
