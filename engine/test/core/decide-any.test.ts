import type { Op, Report } from '@stepwell/protocol'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { applyEntry } from '../../src/core/snapshot.ts'
import { ASKED, aSnapshot, decideReport } from './decisions.ts'

const CHILDREN: ReadonlySet<string> = new Set(['child_started', 'child_detached'])
const saw = fc.integer({ min: 1, max: 9 })
const anyOp: fc.Arbitrary<Op> = fc.oneof(
  fc.record({
    op: fc.constant('step' as const),
    key: fc.constantFrom('a', 'b', 'c'),
    saw,
    attempt: fc.integer({ min: 1, max: 5 }),
    output: fc.jsonValue() as fc.Arbitrary<never>,
  }),
  fc.record({
    op: fc.constant('step' as const),
    key: fc.constantFrom('a', 'b'),
    saw,
    attempt: fc.integer({ min: 1, max: 5 }),
    error: fc.constant({ name: 'Error', message: 'card declined' }),
    retry: fc.constant({ maxAttempts: 4, minDelayMs: 1_000, maxDelayMs: 60_000 }),
  }),
  fc.record({ op: fc.constant('sleep' as const), key: fc.constantFrom('a', 'd'), saw, ms: fc.nat(1e6) }),
  fc.record({
    op: fc.constant('wait' as const),
    key: fc.constantFrom('c', 'e'),
    saw,
    event: fc.constant('x'),
  }),
  fc.record({ op: fc.constant('receive' as const), key: fc.constantFrom('b', 'f'), saw, signal: fc.constant('s') }),
  fc.record(
    {
      op: fc.constant('invoke' as const),
      key: fc.constantFrom('a', 'g', 'h'),
      saw,
      function: fc.constantFrom('child', 'nobody'),
      detached: fc.constant(true as const),
    },
    { requiredKeys: ['op', 'key', 'saw', 'function'] },
  ),
  fc.constantFrom<Op>({ op: 'finish' }, { op: 'cancelled' }, { op: 'continue_as_new' }),
)

test('whatever an app reports, a key settles once, a decision ends with one settle, and a snapshot is not changed', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(
          fc.array(anyOp, { maxLength: 6 }),
          fc.constantFrom('running', 'continue', 'waiting', 'done') as fc.Arbitrary<Report['state']>,
        ),
      ),
      fc.boolean(),
      (reports, wasAsked) => {
        const snapshot = aSnapshot(wasAsked ? { cancel: ASKED } : {})
        const settled = new Set<string>()
        for (const [ops, state] of reports) {
          const before = JSON.stringify([...snapshot.keys])

          const changes = decideReport(snapshot, ops, { state })

          expect(JSON.stringify([...snapshot.keys])).toBe(before)
          expect(changes.filter(change => change.kind === 'settle')).toHaveLength(1)
          expect(changes.at(-1)?.kind).toBe('settle')
          // a child is started by the op that records it
          const children = changes.filter(({ kind }) => kind === 'start_run').length
          expect(changes.filter(change => change.kind === 'record' && CHILDREN.has(change.type))).toHaveLength(children)
          for (const change of changes) {
            if (change.kind !== 'record') continue
            expect(settled.has(change.key)).toBe(false)
            if (change.settles) settled.add(change.key)
            applyEntry(snapshot, { type: change.type, key: change.key, data: null })
          }
        }
      },
    ),
  )
})
