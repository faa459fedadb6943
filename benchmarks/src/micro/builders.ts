/*
 * What the cases measure with, in one place: when the engine's types change, this file follows.
 */
import { randomBytes } from 'node:crypto'
import { createUuid7, encodeId, type Report, type StepOp } from '@stepwell/protocol'
import type { Change, RecordChange } from 'stepwell/src/core/change.ts'
import type { Token } from 'stepwell/src/core/ids.ts'
import { applyEntry, newSnapshot, type Snapshot } from 'stepwell/src/core/snapshot.ts'
import type { Advance } from 'stepwell/src/store/advance.ts'
import type { IngestEvent } from 'stepwell/src/store/ingest.ts'
import type { Claimed } from 'stepwell/src/store/queue.ts'
import type { Recording } from 'stepwell/src/store/record.ts'

export const FUNCTION = 'measured'
/** A small object of a customer: what a typical step returns. */
export const OUTPUT = { id: 'cus_4711', status: 'paid', amount: 4_200, currency: 'eur', tags: ['new', 'eu'] }

export const newUuid = createUuid7({ now: Date.now, random: randomBytes })

export function newToken(): Token {
  return (randomBytes(8).readBigUInt64BE() >> 1n).toString() as Token
}

/** A run whose first `settled` steps are done. */
export function aSnapshot(settled: number): Snapshot {
  const snapshot = newSnapshot({
    runId: newUuid(),
    generation: 1,
    turn: 1,
    nowMs: Date.now(),
    trouble: null,
    wantsUndo: false,
    functions: new Map(),
  })
  for (let n = 0; n < settled; n += 1)
    applyEntry(snapshot, { type: 'step_completed', key: `done-${n}`, data: JSON.stringify(OUTPUT) })
  return snapshot
}

/** What an app says about a step that it ran. */
export function aStepOp(key: string): StepOp {
  return { op: 'step', key, saw: 1, attempt: 1, output: OUTPUT, startedMs: 0.51, durationMs: 0.12 }
}

/** A report during a turn; `run` is a wire id. */
export function aReport(given: { run?: string; epoch?: string; turn?: number; n?: number; ops: StepOp[] }): Report {
  const { run = encodeId('run', newUuid()), epoch = '1', turn = 1, n = 1, ops } = given
  return { kind: 'report', run, generation: 1, turn, epoch, n, state: 'running', ops }
}

/** An event that starts one run, and fits no wait. */
export function aStartingEvent(): IngestEvent {
  const id = newUuid()
  return {
    id,
    wireId: encodeId('evt', id),
    isOwnId: false,
    name: 'bench.start',
    ts: new Date().toISOString(),
    data: JSON.stringify(OUTPUT),
    hashes: [],
    runs: [{ id: newUuid(), function: FUNCTION, version: 1, watches: [], tags: null }],
  }
}

export type Leased = Claimed & { token: Token }

/** What a report of one completed step writes while the turn goes on: the run's `stepsBefore` + 1st. */
export function aRecording(leased: Leased, stepsBefore: number): Recording {
  const { runId, token, generation, turn } = leased
  const nextSeq = leased.journal.length + 1 + stepsBefore
  return { runId, token, generation, turn, nextSeq, entries: [aCompletedStep(`step-${stepsBefore}`)] }
}

/** The same through the door that takes everything. */
export function aStepTaken(leased: Leased, stepsBefore: number): Advance {
  const changes: Change[] = [aCompletedStep(`step-${stepsBefore}`), { kind: 'settle', step: 'running' }]
  return anAdvance(leased, stepsBefore, changes)
}

/** The decision that the end of a run is. */
export function anEnd(leased: Leased, stepsBefore: number): Advance {
  return anAdvance(leased, stepsBefore, [
    { kind: 'settle', step: 'done', state: 'completed', output: '5', error: null },
  ])
}

function anAdvance(leased: Leased, stepsBefore: number, changes: Change[]): Advance {
  return {
    runId: leased.runId,
    token: leased.token,
    generation: leased.generation,
    turn: leased.turn,
    nextSeq: leased.journal.length + 1 + stepsBefore,
    clearTrouble: false,
    attempts: stepsBefore,
    stamps: { readyAtMs: leased.readyAtMs, sentMs: 0.1, firstByteMs: 0.9, endedMs: 1.1, replayMs: 0.05 },
    changes,
    parent: null,
    nextVersion: 1,
    follow: null,
    starts: new Map(),
  }
}

function aCompletedStep(key: string): RecordChange {
  return {
    kind: 'record',
    type: 'step_completed',
    key,
    saw: 1,
    settles: true,
    data: JSON.stringify(OUTPUT),
    startedMs: 0.51,
    durationMs: 0.12,
  }
}
