import type { WireError } from './error.ts'
import type { Entry } from './journal.ts'
import type { Json } from './json.ts'
import type { Op } from './op.ts'

/** Engine to app: one dispatch of a run, from claim to settled. */
export interface Turn {
  kind: 'turn'
  /** `app/environment`. */
  workspace: string
  function: string
  /** The version of the function that the run began with; 1 when absent. */
  version?: number
  run: { id: string; generation: number }
  /** From 1 within a generation. A turn that was not settled is sent again under the same number. */
  turn: number
  /** The right to write to this run: opaque, new with every claim. Every report carries it. */
  epoch: string
  /** No new step body should start after this many milliseconds: the app then settles the turn with `continue`. */
  budgetMs: number
  /** Where reports go while the turn runs. */
  reportUrl: string
  /** The whole journal so far, in order. */
  journal: Entry[]
  /** The status that is recorded, as `Report.status` set it last; absent for none. */
  status?: Json
  /** The tags that are recorded; absent for none. */
  tags?: Tags
}

/** Names and values by which runs are found. */
export interface Tags {
  [name: string]: string
}

/**
 * App to engine: ops and a state. The same message in two places: inside a `ReportBatch` while the turn runs, or as
 * the turn's response, which is always its last report.
 */
export interface Report {
  kind: 'report'
  run: string
  generation: number
  turn: number
  epoch: string
  /** From 1 within one dispatch. Delivered twice, it is applied once. */
  n: number
  state: ReportState
  /** In the order in which the handler asked, then steps in the order in which they ended. */
  ops: Op[]
  /** With `refused`: why this code cannot take the turn. */
  error?: WireError
  /** The run's custom status from now on, readable from outside; null takes it away. Recorded with the ops, or not at all. */
  status?: Json
  /** The run's tags from now on: these and no others. */
  tags?: Tags
  /** How long the app took to rebuild its state from the journal, in milliseconds. */
  replayMs?: number
}

/**
 * - `running`: more reports of this turn follow: the state of every report in a `ReportBatch`, and of no response.
 * - `continue`: the turn is over and the next one should follow at once.
 * - `waiting`: the turn is over; every branch of the handler waits for something that the journal knows to be open.
 * - `done`: the turn is over and its last op is an `EndOp`.
 * - `refused`: this code cannot take this journal. Nothing is recorded; the turn is sent again later.
 */
export type ReportState = 'running' | 'continue' | 'waiting' | 'done' | 'refused'

/** `POST` to the turn's `reportUrl`: reports of any turns that run in one app process, together. */
export interface ReportBatch {
  kind: 'reports'
  workspace: string
  reports: Report[]
}

/** What the engine answers to a `ReportBatch` after the commit; `acks[i]` is about `reports[i]`. */
export interface AckBatch {
  kind: 'acks'
  acks: Ack[]
}

/** HTTP status of the batch: 200 when any report was taken, else the status of the first refusal. */
export type Ack =
  | {
      run: string
      n: number
      status: 200
      /**
       * Everything recorded or delivered since the last ack, in order: what arrived from outside and what this
       * report asked for. The output of a `step_completed` that this report brought is left out.
       */
      entries: Entry[]
      /** The engine is about to stop: settle the turn with `continue` as soon as the bodies that run have ended. */
      yield?: true
    }
  /** 409 `stale_epoch`: nothing was written; abort the turn. 421 `not_holder`: settle by the response instead. 422: malformed. */
  | { run: string; n: number; status: 409 | 421 | 422; code: string; message: string }
