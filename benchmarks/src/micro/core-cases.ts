import type { EntryType } from '@stepwell/protocol'
import { decide } from 'stepwell/src/core/decide.ts'
import type { Happening } from 'stepwell/src/core/happening.ts'
import { eventHash } from 'stepwell/src/core/match.ts'
import { applyEntry } from 'stepwell/src/core/snapshot.ts'
import { aReport, aSnapshot, aStepOp, newUuid, OUTPUT } from './builders.ts'
import type { Case } from './measure.ts'

/** Pure decisions: no database, no network. */
export function coreCases(): Case[] {
  return [
    decideCase({ ops: 1, settled: 5 }),
    decideCase({ ops: 1, settled: 1_000 }),
    decideCase({ ops: 100, settled: 5 }),
    replayCase(1_000),
    {
      name: 'eventHash, 2 paths',
      items: 1,
      run: () => eventHash({ name: 'order.paid', data: OUTPUT, id: 'evt_1', ts: '2026-01-01T00:00:00Z' }, PATHS),
    },
  ]
}

const CHANCE = { dice: () => 0.5, newUuid }
const PATHS = ['id', 'status']

function decideCase({ ops, settled }: { ops: number; settled: number }): Case {
  const snapshot = aSnapshot(settled)
  const report = aReport({ ops: Array.from({ length: ops }, (_, n) => aStepOp(`step-${n}`)) })
  const happening: Happening = { kind: 'report', report, isResponse: false }
  return {
    name: `decide, a report of ${ops} op${ops === 1 ? '' : 's'} on ${settled.toLocaleString('en')} steps`,
    items: ops,
    run: () => decide(snapshot, happening, CHANCE),
  }
}

function replayCase(count: number): Case {
  const type: EntryType = 'step_completed'
  const entries = Array.from({ length: count }, (_, n) => ({ type, key: `step-${n}`, data: JSON.stringify(OUTPUT) }))
  return {
    name: `applyEntry, a journal of ${count.toLocaleString('en')} entries`,
    items: count,
    run: () => {
      const snapshot = aSnapshot(0)
      for (const entry of entries) applyEntry(snapshot, entry)
      return snapshot
    },
  }
}
