/** Builders of snapshots and ops, and the decision about a report. */
import { encodeId, type InvokeOp, type Op, type Report, type StepOp } from '@stepwell/protocol'
import type { Change } from '../../src/core/change.ts'
import { decide } from '../../src/core/decide.ts'
import { type KeyState, newSnapshot, type Snapshot } from '../../src/core/snapshot.ts'

export const NOW = Date.parse('2026-03-01T12:00:00.000Z')
export const RUN = '01900000-0000-7000-8000-000000000000'
export const CHILD = '01900000-0000-7000-8000-00000000c41d'
export const CHILD_ID = encodeId('run', CHILD)
export const ASKED = { by: 'request', message: 'enough' } as const

/** A leased run with an empty journal. */
export function aSnapshot(given: Partial<Snapshot> = {}): Snapshot {
  const base = { runId: RUN, generation: 2, turn: 1, nowMs: NOW, trouble: null, wantsUndo: false }
  return { ...newSnapshot({ ...base, functions: new Set(['child']) }), ...given }
}

/** A run whose journal has that key. */
export function known(key: string, kind: KeyState['kind'], state: KeyState['state']): Partial<Snapshot> {
  return { keys: new Map([[key, { kind, state, attempts: 0 }]]) }
}

/** What a report about the run becomes. */
export function decideReport(snapshot: Snapshot, ops: Op[], given: Partial<Report> = {}): Change[] {
  const head = { kind: 'report', run: 'run_x', generation: 2, turn: 1, epoch: '1', n: 1, state: 'running' } as const
  const report: Report = { ...head, ops, ...given }
  const happening = { kind: 'report', report, isResponse: report.state !== 'running' } as const
  return decide(snapshot, happening, { dice: () => 0.5, newUuid: () => CHILD })
}

export const receive = (given: object = {}): Op => ({ op: 'receive', key: 'r', saw: 1, signal: 'approve', ...given })
export const invoke = (given: Partial<InvokeOp> = {}): Op => ({
  op: 'invoke',
  key: 'c',
  saw: 1,
  function: 'child',
  ...given,
})
export const step = (given: Partial<StepOp> = {}): Op => ({ op: 'step', key: 'a', saw: 1, attempt: 1, ...given })
