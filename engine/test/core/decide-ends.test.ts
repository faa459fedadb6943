/* Undoing, cancelling, generations, and what a run says of itself. */
import { LIMITS } from '@stepwell/protocol'
import { describe, expect, test } from 'vitest'
import type { Change } from '../../src/core/change.ts'
import { decide } from '../../src/core/decide.ts'
import { applyEntry } from '../../src/core/snapshot.ts'
import { ASKED, aSnapshot, CHILD, decideReport, known, RUN, step } from './decisions.ts'

describe('a step with an undo', () => {
  const wants = (changes: Change[]) => changes.filter(change => change.kind === 'want_undo').length

  test('has the run want a turn when it is cancelled', () => {
    expect(wants(decideReport(aSnapshot(), [step({ undo: true })]))).toBe(1)
  })

  test('says so in a failed attempt too', () => {
    expect(wants(decideReport(aSnapshot(), [step({ undo: true, error: { name: 'E', message: 'm' } })]))).toBe(1)
  })

  test('says nothing new to a run that wants one already', () => {
    expect(wants(decideReport(aSnapshot({ wantsUndo: true }), [step({ undo: true })]))).toBe(0)
  })

  test('says nothing when it is recorded already, or when a step has no undo', () => {
    expect(wants(decideReport(aSnapshot(known('a', 'step', 'settled')), [step({ undo: true })]))).toBe(0)
    expect(wants(decideReport(aSnapshot(), [step()]))).toBe(0)
  })
})

describe('cancelling', () => {
  const cancelled = {
    kind: 'settle',
    step: 'done',
    state: 'cancelled',
    output: null,
    error: JSON.stringify({ name: 'StepwellError', message: 'enough', code: 'run_cancelled' }),
  }

  test('ends a run for which the app has nothing to do', () => {
    const [end, ...more] = decide(
      aSnapshot(),
      { kind: 'cancelled', reason: ASKED },
      { dice: () => 0, newUuid: () => CHILD },
    )

    expect(more).toEqual([])
    expect(parsed(end)).toEqual(parsed(cancelled))
  })

  test('ends the run when the app says that it has done what it had to', () => {
    const changes = decideReport(aSnapshot({ cancel: ASKED }), [{ op: 'cancelled' }], { state: 'done' })

    expect(changes.map(parsed)).toEqual([parsed(cancelled)])
  })

  test('is not believed when nobody has asked for it', () => {
    const changes = decideReport(aSnapshot(), [{ op: 'cancelled' }], { state: 'done' })

    expect(changes).toMatchObject([{ step: 'trouble', trouble: { code: 'app_body_invalid', attempts: 1 } }])
  })

  test('leaves its first reason standing', () => {
    const snapshot = aSnapshot()

    for (const message of ['enough', 'too late'])
      applyEntry(snapshot, { type: 'cancel_requested', key: null, data: JSON.stringify({ by: 'request', message }) })

    expect(snapshot.cancel).toEqual(ASKED)
    expect(snapshot.keys.size).toBe(0)
  })

  test('comes too late for a handler that has ended', () => {
    const snapshot = aSnapshot({ cancel: ASKED })

    expect(decideReport(snapshot, [{ op: 'finish' }], { state: 'done' })[0]).toMatchObject({ state: 'completed' })
    expect(
      decideReport(snapshot, [{ op: 'fail', error: { name: 'E', message: 'm' } }], { state: 'done' })[0],
    ).toMatchObject({ state: 'failed' })
  })

  test('is not lost with the journal of a generation that ends', () => {
    const changes = decideReport(aSnapshot({ cancel: ASKED }), [{ op: 'continue_as_new', input: 1 }], { state: 'done' })

    expect(changes.map(parsed)).toEqual([parsed(cancelled)])
  })
})

describe('the next generation', () => {
  test.each([
    ['the input that was given', { input: { cursor: 7 } }, { cursor: 7 }],
    ['null when that was given', { input: null }, null],
    ['an empty object when nothing was given', {}, {}],
  ])('starts with %s', (_name, given, data) => {
    const event = {
      id: `${RUN}:2:stepwell.continued:0`,
      name: 'stepwell.continued',
      data,
      ts: '2026-03-01T12:00:00.000Z',
    }

    expect(decideReport(aSnapshot(), [{ op: 'continue_as_new', ...given }], { state: 'done' })).toEqual([
      { kind: 'settle', step: 'next_generation', event: JSON.stringify(event), unread: [] },
    ])
  })

  test('begins after what the last report of the old one records', () => {
    const changes = decideReport(aSnapshot(), [step(), { op: 'continue_as_new' }], { state: 'done', status: 1 })

    expect(changes.map(change => change.kind)).toEqual(['set_status', 'record', 'settle'])
  })
})

describe('what a run says of itself', () => {
  test.each([
    ['a status', { status: { done: 1 } }, [{ kind: 'set_status', status: '{"done":1}' }]],
    ['that it has no status', { status: null }, [{ kind: 'set_status', status: 'null' }]],
    ['tags', { tags: { a: 'b' } }, [{ kind: 'set_tags', tags: { a: 'b' } }]],
    ['that it has no tags', { tags: {} }, [{ kind: 'set_tags', tags: {} }]],
    ['nothing', {}, []],
  ])('is recorded: %s', (_name, said, changes) => {
    expect(decideReport(aSnapshot(), [], said)).toEqual([...changes, { kind: 'settle', step: 'running' }])
    expect(decideReport(aSnapshot(), [{ op: 'finish' }], { state: 'done', ...said })).toMatchObject([
      ...changes,
      { step: 'done', state: 'completed' },
    ])
  })

  test('is not recorded with a refusal', () => {
    const error = { name: 'E', message: 'm' }

    expect(decideReport(aSnapshot(), [], { state: 'refused', error, status: 1 })).toMatchObject([{ step: 'trouble' }])
  })

  test('is not recorded when the run is over a limit', () => {
    const changes = decideReport(aSnapshot({ journalBytes: LIMITS.journalBytes }), [step({ output: 'x' })], {
      status: 1,
    })

    expect(changes).toMatchObject([{ step: 'done', state: 'failed' }])
  })
})

/** An end with its error as JSON instead of text. */
function parsed(change: Change | object | undefined): unknown {
  return change !== undefined && 'error' in change ? { ...change, error: JSON.parse(String(change.error)) } : change
}
