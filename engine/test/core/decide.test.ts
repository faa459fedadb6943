import type { Op, Report, StepOp } from '@stepwell/protocol'
import { describe, expect, test } from 'vitest'
import type { Change } from '../../src/core/change.ts'
import { decide } from '../../src/core/decide.ts'
import { applyEntry, type Snapshot } from '../../src/core/snapshot.ts'

const NOW = Date.parse('2026-03-01T12:00:00.000Z')
const CHILD = '01900000-0000-7000-8000-00000000c41d'
const HALF = { dice: () => 0.5, newUuid: () => CHILD }

function aSnapshot(given: Partial<Snapshot> = {}): Snapshot {
  return {
    runId: '01900000-0000-7000-8000-000000000000',
    generation: 1,
    turn: 1,
    nowMs: NOW,
    trouble: null,
    keys: new Map(),
    attempts: 0,
    journalBytes: 0,
    wantsUndo: false,
    cancel: null,
    functions: new Set(['child']),
    ...given,
  }
}

function aReport(ops: Op[], state: Report['state'] = 'running'): Report {
  return { kind: 'report', run: 'run_x', generation: 1, turn: 1, epoch: '1', n: 1, state, ops }
}

function aStep(given: Partial<StepOp> = {}): StepOp {
  return { op: 'step', key: 'charge', saw: 1, attempt: 1, ...given }
}

function decideReport(
  snapshot: Snapshot,
  ops: Op[],
  state: Report['state'] = 'running',
  isResponse = state !== 'running',
): Change[] {
  return decide(snapshot, { kind: 'report', report: aReport(ops, state), isResponse }, HALF)
}

const FAILURE = { name: 'Error', message: 'card declined' }
const POLICY = { maxAttempts: 4, minDelayMs: 1_000, maxDelayMs: 60_000 }

describe('a step', () => {
  test.each([
    ['null', null, 'null'],
    ['zero', 0, '0'],
    ['an empty string', '', '""'],
    ['false', false, 'false'],
  ])('with the output %s is recorded with it', (_name, output, text) => {
    const changes = decideReport(aSnapshot(), [aStep({ output })])

    expect(changes[0]).toMatchObject({
      kind: 'record',
      type: 'step_completed',
      key: 'charge',
      settles: true,
      data: text,
    })
    expect(changes[1]).toEqual({ kind: 'settle', step: 'running' })
  })

  test('without an output is recorded without data', () => {
    expect(decideReport(aSnapshot(), [aStep()])[0]).toMatchObject({ type: 'step_completed', data: null })
  })

  test('that failed with attempts left backs off and is not settled', () => {
    const changes = decideReport(aSnapshot(), [aStep({ error: FAILURE, retry: POLICY })])

    expect(changes[0]).toMatchObject({ type: 'step_retrying', settles: false })
    // attempt 1 of the curve, and a jitter of 0.5: three quarters of a second
    expect(changes[1]).toEqual({
      kind: 'open_wait',
      wait: 'retry',
      key: 'charge',
      dueAtMs: NOW + 750,
      why: 'Error: card declined (attempt 1 of 4)',
    })
  })

  test.each([1, 2, 3])('that failed %i times is tried again after twice as long', failures => {
    const snapshot = aSnapshot({ keys: new Map([['charge', { kind: 'step', state: 'due', attempts: failures - 1 }]]) })

    const changes = decideReport(snapshot, [aStep({ attempt: failures, error: FAILURE, retry: POLICY })])

    expect(changes[1]).toMatchObject({ wait: 'retry', dueAtMs: NOW + 1_000 * 2 ** (failures - 1) * 0.75 })
  })

  test('that failed for the last time settles with the error', () => {
    const snapshot = aSnapshot({ keys: new Map([['charge', { kind: 'step', state: 'due', attempts: 3 }]]) })

    const changes = decideReport(snapshot, [aStep({ attempt: 4, error: FAILURE, retry: POLICY })])

    expect(changes[0]).toMatchObject({
      type: 'step_failed',
      settles: true,
      data: JSON.stringify({ error: FAILURE, attempt: 4 }),
    })
    expect(changes.some(change => change.kind === 'open_wait')).toBe(false)
  })

  test('that asks not to be tried again settles at once', () => {
    expect(decideReport(aSnapshot(), [aStep({ error: FAILURE })])[0]).toMatchObject({ type: 'step_failed' })
  })

  test('that names its own delay waits that long, without jitter', () => {
    const changes = decideReport(aSnapshot(), [aStep({ error: FAILURE, retry: { ...POLICY, afterMs: 200 } })])

    expect(changes[1]).toMatchObject({ dueAtMs: NOW + 200 })
  })

  test.each(['settled', 'open'] as const)('that is %s already is not recorded again', state => {
    const snapshot = aSnapshot({ keys: new Map([['charge', { kind: 'step', state, attempts: 1 }]]) })

    expect(decideReport(snapshot, [aStep({ output: 'again' })])).toEqual([{ kind: 'settle', step: 'running' }])
  })

  test('whose output is over the limit fails by name, and is not tried again', () => {
    const changes = decideReport(aSnapshot(), [aStep({ output: 'ä'.repeat(700_000), retry: POLICY })])

    expect(changes[0]).toMatchObject({
      type: 'step_failed',
      settles: true,
      data: expect.stringContaining('step_output_too_large'),
    })
  })

  test('that comes twice in one report is recorded once', () => {
    const changes = decideReport(aSnapshot(), [aStep({ output: 1 }), aStep({ output: 2 })])

    expect(changes.filter(change => change.kind === 'record')).toHaveLength(1)
  })
})

describe('a sleep', () => {
  test.each([
    ['200 ms from now', { ms: 200 }, NOW + 200],
    ['200 ms from when it was asked for, 50 ms ago', { ms: 200, ageMs: 50 }, NOW + 150],
    ['200 ms from now, when it was asked for just now', { ms: 200, ageMs: 0 }, NOW + 200],
    ['at once, when it is as old as it is long', { ms: 200, ageMs: 200 }, NOW],
    ['at once, and not before, when it is older than it is long', { ms: 200, ageMs: 5_000 }, NOW],
    ['at once, when it is long by nothing', { ms: 0, ageMs: 3 }, NOW],
    ['until an instant', { until: '2026-03-03T12:00:00.000Z' }, NOW + 2 * 86_400_000],
    ['until an instant, however old', { until: '2026-03-03T12:00:00.000Z', ageMs: 1_000 }, NOW + 2 * 86_400_000],
    ['until an instant that has passed', { until: '2020-01-01T00:00:00.000Z' }, Date.parse('2020-01-01T00:00:00.000Z')],
  ])('%s is due exactly then', (_name, when, dueAtMs) => {
    const changes = decideReport(aSnapshot(), [{ op: 'sleep', key: 'nap', saw: 1, ...when }], 'waiting')

    expect(changes).toMatchObject([
      {
        kind: 'record',
        type: 'sleep_started',
        settles: false,
        data: JSON.stringify({ until: new Date(dueAtMs).toISOString() }),
      },
      { kind: 'open_wait', wait: 'sleep', key: 'nap', dueAtMs },
      { kind: 'settle', step: 'waiting' },
    ])
  })

  test('keeps the instant that was recorded first', () => {
    const snapshot = aSnapshot({ keys: new Map([['nap', { kind: 'sleep', state: 'open', attempts: 0 }]]) })

    expect(decideReport(snapshot, [{ op: 'sleep', key: 'nap', saw: 1, ms: 5 }], 'waiting')).toEqual([
      { kind: 'settle', step: 'waiting' },
    ])
  })
})

describe('a wait', () => {
  test('without a time-out is due never', () => {
    const changes = decideReport(aSnapshot(), [{ op: 'wait', key: 'ok', saw: 1, event: 'approved' }], 'waiting')

    expect(changes[1]).toEqual({
      kind: 'open_wait',
      wait: 'event',
      key: 'ok',
      dueAtMs: null,
      event: 'approved',
      match: {},
    })
  })

  test('with a time-out expires then', () => {
    const op: Op = { op: 'wait', key: 'ok', saw: 1, event: 'approved', match: { id: 7 }, timeoutMs: 60_000 }

    const changes = decideReport(aSnapshot(), [op], 'waiting')

    expect(changes[0]).toMatchObject({
      type: 'wait_opened',
      data: JSON.stringify({ event: 'approved', match: { id: 7 }, expiresAt: new Date(NOW + 60_000).toISOString() }),
    })
    expect(changes[1]).toMatchObject({ dueAtMs: NOW + 60_000, match: { id: 7 } })
  })
})

test('events that are sent get ids of their run and key, so that sending again is the same event', () => {
  const op: Op = { op: 'send', key: 'tell', saw: 1, events: [{ name: 'a' }, { name: 'b', id: 'mine' }] }

  const first = decideReport(aSnapshot(), [op])
  const second = decideReport(aSnapshot(), [op])

  expect(first).toEqual(second)
  expect(first[1]).toMatchObject({
    type: 'events_sent',
    settles: true,
    data: JSON.stringify({ ids: ['01900000-0000-7000-8000-000000000000:1:tell:0', 'mine'] }),
  })
})

test('an event of a step with a long id still has an id of lawful length', () => {
  const op: Op = { op: 'send', key: 'k'.repeat(256), saw: 1, events: [{ name: 'a' }] }

  const [send] = decideReport(aSnapshot(), [op])

  expect(send).toMatchObject({ kind: 'send_events' })
  if (send?.kind === 'send_events') expect(send.events[0]?.id.length).toBeLessThanOrEqual(256)
})

test('a back-off that ends after its step was settled changes nothing', () => {
  const snapshot = aSnapshot({ keys: new Map([['charge', { kind: 'step', state: 'settled', attempts: 2 }]]) })

  applyEntry(snapshot, { type: 'step_due', key: 'charge', data: null })

  expect(decideReport(snapshot, [aStep({ attempt: 3, output: 'again' })])).toEqual([
    { kind: 'settle', step: 'running' },
  ])
})

test('a run that holds more than a run may is ended without asking an app', () => {
  const error = { name: 'StepwellError', code: 'journal_too_large', message: 'too large' }

  expect(decide(aSnapshot(), { kind: 'over_limit', error }, HALF)).toEqual([
    { kind: 'settle', step: 'done', state: 'failed', output: null, error: JSON.stringify(error) },
  ])
})

describe('the end', () => {
  test('of a handler that returned completes the run', () => {
    expect(decideReport(aSnapshot(), [{ op: 'finish', output: { ok: true } }], 'done')).toEqual([
      { kind: 'settle', step: 'done', state: 'completed', output: '{"ok":true}', error: null },
    ])
  })

  test('of a handler that threw fails the run', () => {
    expect(decideReport(aSnapshot(), [{ op: 'fail', error: FAILURE }], 'done')).toEqual([
      { kind: 'settle', step: 'done', state: 'failed', output: null, error: JSON.stringify(FAILURE) },
    ])
  })
})

describe('a turn that ends without an end of the run', () => {
  test('with continue goes on at once', () => {
    expect(decideReport(aSnapshot(), [], 'continue')).toEqual([{ kind: 'settle', step: 'continue' }])
  })

  test('with waiting is not believed when nothing is open', () => {
    expect(decideReport(aSnapshot(), [], 'waiting')[0]).toMatchObject({
      step: 'trouble',
      trouble: { code: 'handler_stalled', attempts: 1 },
    })
  })

  test('refused is sent again later and says why', () => {
    const report: Report = { ...aReport([], 'refused'), error: { name: 'StepwellError', message: 'Step "a" is gone.' } }

    const changes = decide(aSnapshot(), { kind: 'report', report, isResponse: true }, HALF)

    expect(changes[0]).toMatchObject({
      step: 'trouble',
      trouble: { code: 'turn_refused', message: 'Step "a" is gone.' },
    })
  })

  test('without an answer is sent again, later each time, and remembers since when', () => {
    const trouble = { code: 'app_timeout' as const, message: 'x', attempts: 3, since: '2026-03-01T11:00:00.000Z' }

    const changes = decide(
      aSnapshot({ trouble }),
      { kind: 'no_answer', code: 'app_unreachable', message: 'Gone.', dice: 1 },
      HALF,
    )

    expect(changes).toEqual([
      {
        kind: 'settle',
        step: 'trouble',
        resendMs: 2_000,
        trouble: { code: 'app_unreachable', message: 'Gone.', attempts: 4, since: trouble.since },
      },
    ])
  })
})

test('a run that asks for more steps than a run may have fails by name', () => {
  const keys: Snapshot['keys'] = new Map(
    Array.from({ length: 10_000 }, (_, n) => [`s${n}`, { kind: 'step', state: 'settled', attempts: 1 }]),
  )

  expect(decideReport(aSnapshot({ keys }), [aStep()])[0]).toMatchObject({
    step: 'done',
    state: 'failed',
    error: expect.stringContaining('too_many_steps'),
  })
})

test('a run whose journal grows too large fails by name', () => {
  expect(decideReport(aSnapshot({ journalBytes: 32 * 1024 * 1024 }), [aStep({ output: 'x' })])[0]).toMatchObject({
    step: 'done',
    state: 'failed',
    error: expect.stringContaining('journal_too_large'),
  })
})
