/* Signals and children: what each op becomes. */
import { LIMITS, type Op } from '@stepwell/protocol'
import { describe, expect, test } from 'vitest'
import { applyEntry, type Snapshot } from '../../src/core/snapshot.ts'
import { aSnapshot, CHILD, CHILD_ID, decideReport, invoke, known, NOW, RUN, receive, step } from './decisions.ts'

describe('a wait for a signal', () => {
  test.each([
    ['without a time-out is due never', {}, null, { signal: 'approve' }],
    ['with a time-out expires then', { timeoutMs: 500 }, NOW + 500, at({ signal: 'approve' }, NOW + 500)],
    ['with a time-out of nothing is due at once', { timeoutMs: 0 }, NOW, at({ signal: 'approve' }, NOW)],
  ])('%s', (_name, timeout, dueAtMs, data) => {
    expect(decideReport(aSnapshot(), [receive(timeout)], { state: 'waiting' })).toEqual([
      { kind: 'record', type: 'signal_awaited', key: 'r', saw: 1, settles: false, data: JSON.stringify(data) },
      { kind: 'open_wait', wait: 'signal', key: 'r', dueAtMs, signal: 'approve' },
      { kind: 'settle', step: 'waiting' },
    ])
  })
})

describe('a child', () => {
  const start = {
    kind: 'start_run',
    runId: CHILD,
    function: 'child',
    event: JSON.stringify({
      id: `${RUN}:2:c:0`,
      name: 'stepwell.invoked',
      data: { n: 1 },
      ts: '2026-03-01T12:00:00.000Z',
    }),
    key: 'c',
    isCancelledWith: true,
  }

  test.each([
    ['is waited for as long as it takes', {}, null, {}],
    ['is waited for until its time-out', { timeoutMs: 500 }, NOW + 500, at({}, NOW + 500)],
  ])('%s', (_name, timeout, dueAtMs, expiry) => {
    const data = JSON.stringify({ run: CHILD_ID, function: 'child', ...expiry })

    expect(decideReport(aSnapshot(), [invoke({ data: { n: 1 }, ...timeout })], { state: 'waiting' })).toEqual([
      { kind: 'record', type: 'child_started', key: 'c', saw: 1, settles: false, data },
      { kind: 'open_wait', wait: 'child', key: 'c', dueAtMs, label: `${CHILD_ID} of child` },
      start,
      { kind: 'settle', step: 'waiting' },
    ])
  })

  test('that is detached is started, settles its key, and tells nobody of its end', () => {
    const data = JSON.stringify({ run: CHILD_ID, function: 'child' })

    expect(decideReport(aSnapshot(), [invoke({ data: { n: 1 }, detached: true, timeoutMs: 500 })])).toEqual([
      { kind: 'record', type: 'child_detached', key: 'c', saw: 1, settles: true, data },
      { ...start, key: null },
      { kind: 'settle', step: 'running' },
    ])
  })

  test.each([
    [undefined, true],
    ['cancel', true],
    ['abandon', false],
  ] as const)('with onCancel %s is cancelled with its parent: %s', (onCancel, isCancelledWith) => {
    for (const detached of [undefined, true] as const) {
      const given = { ...(onCancel && { onCancel }), ...(detached && { detached }) }

      const changes = decideReport(aSnapshot(), [invoke(given)])

      expect(changes.find(change => change.kind === 'start_run')).toMatchObject({ isCancelledWith })
    }
  })

  test.each([
    ['an empty object when none are given', {}, '"data":{}'],
    ['null when that is given', { data: null }, '"data":null'],
  ])('has as data %s', (_name, given, data) => {
    const changes = decideReport(aSnapshot(), [invoke(given)])

    expect(changes.find(change => change.kind === 'start_run')?.event).toContain(data)
  })

  test.each([{}, { detached: true as const }])(
    'of a function that is not there fails at once, and starts nothing: %j',
    given => {
      const changes = decideReport(aSnapshot(), [invoke({ function: 'nobody', ...given })])

      expect(changes).toMatchObject([
        { kind: 'record', type: 'child_failed', key: 'c', saw: 1, settles: true },
        { kind: 'settle', step: 'running' },
      ])
      expect(changes[0]).toMatchObject({ data: expect.stringContaining('"function_not_found"') })
      expect(changes[0]).toMatchObject({ data: expect.stringContaining('\\"nobody\\"') })
    },
  )
})

describe('an op under a key that the journal has', () => {
  const OPS: [string, Op][] = [
    ['a wait for a signal', receive({ key: 'k' })],
    ['a child', invoke({ key: 'k' })],
    ['a detached child', invoke({ key: 'k', detached: true })],
    ['a child of nobody', invoke({ key: 'k', function: 'nobody' })],
  ]
  const KINDS = ['step', 'sleep', 'wait', 'send', 'receive', 'invoke'] as const
  const STATES = ['settled', 'open', 'due'] as const

  test.each(OPS)('is not recorded again: %s', (_name, op) => {
    for (const kind of KINDS)
      for (const state of STATES)
        expect(decideReport(aSnapshot(known('k', kind, state)), [op])).toEqual([{ kind: 'settle', step: 'running' }])
  })

  test('starts no second child when it comes twice in one report', () => {
    const changes = decideReport(aSnapshot(), [invoke(), invoke()])

    expect(changes.filter(change => change.kind === 'start_run')).toHaveLength(1)
  })
})

describe('what is settled by the report that says that the run waits', () => {
  test.each([
    ['a child of nobody', invoke({ function: 'nobody' })],
    ['a detached child', invoke({ detached: true })],
    ['a step', step()],
    ['an event that is sent', { op: 'send', key: 's', saw: 1, events: [{ name: 'e' }] } as Op],
  ])('has the next turn follow at once: %s', (_name, op) => {
    const sleep: Op = { op: 'sleep', key: 'z', saw: 1, ms: 3_600_000 }

    expect(decideReport(aSnapshot(), [sleep, op], { state: 'waiting' }).at(-1)).toEqual({
      kind: 'settle',
      step: 'continue',
    })
  })

  test('is not what it says of itself: with nothing open it is not believed', () => {
    const changes = decideReport(aSnapshot(), [], { state: 'waiting', status: 'busy', tags: { a: 'b' } })

    expect(changes.at(-1)).toMatchObject({ step: 'trouble', trouble: { code: 'handler_stalled' } })
  })
})

describe('a run that is over a limit', () => {
  const full = new Map(
    Array.from({ length: LIMITS.stepsPerRun }, (_, n) => [`k${n}`, { kind: 'step', state: 'settled', attempts: 1 }]),
  ) as Snapshot['keys']

  test.each([
    ['too_many_steps', receive(), { keys: full }],
    ['too_many_steps', invoke(), { keys: full }],
    ['too_many_steps', invoke({ function: 'nobody' }), { keys: full }],
    ['journal_too_large', receive(), { journalBytes: LIMITS.journalBytes }],
    ['journal_too_large', invoke({ detached: true }), { journalBytes: LIMITS.journalBytes }],
  ])('fails by the name %s, and starts no child', (code, op, given) => {
    const changes = decideReport(aSnapshot(given), [op], { state: 'waiting' })

    expect(changes).toMatchObject([{ step: 'done', state: 'failed', error: expect.stringContaining(code) }])
  })
})

describe('an entry that arrives', () => {
  test.each([
    ['signal_received', 'receive', 'settled'],
    ['signal_expired', 'receive', 'settled'],
    ['child_completed', 'invoke', 'settled'],
    ['child_failed', 'invoke', 'settled'],
    ['child_expired', 'invoke', 'settled'],
    ['child_detached', 'invoke', 'settled'],
    ['signal_awaited', 'receive', 'open'],
    ['child_started', 'invoke', 'open'],
  ] as const)('%s makes its key a %s that is %s', (type, kind, state) => {
    const snapshot = aSnapshot()

    applyEntry(snapshot, { type, key: 'k', data: null })

    expect(snapshot.keys.get('k')).toEqual({ kind, state, attempts: 0 })
  })
})

function at(data: object, expiresAtMs: number): object {
  return { ...data, expiresAt: new Date(expiresAtMs).toISOString() }
}
