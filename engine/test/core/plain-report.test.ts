import { LIMITS } from '@stepwell/protocol'
import { reportSchema } from '@stepwell/protocol/schemas'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isPlainReport } from '../../src/core/plain-report.ts'

type Ops = Record<string, unknown>[]
type Value = Record<string, unknown> & { ops: Ops }

/** What JSON can hold, which is what a body brings. */
const json = fc.jsonValue({ maxDepth: 2 })
const name = fc.stringMatching(/^[A-Za-z0-9_.:#-]{1,128}$/)
const count = fc.integer({ min: 1, max: 2 ** 31 - 1 })
const duration = fc.double({ min: 0, max: LIMITS.durationMs, noNaN: true })

const step = fc.record(
  {
    op: fc.constant('step'),
    key: fc.stringMatching(/^[A-Za-z0-9_.:-]{1,20}$/),
    saw: count,
    attempt: fc.integer({ min: 1, max: LIMITS.maxAttempts }),
    output: json,
    startedMs: duration,
    durationMs: duration,
  },
  { requiredKeys: ['op', 'key', 'saw', 'attempt'] },
)
const finish = fc.record({ op: fc.constant('finish'), output: json }, { requiredKeys: ['op'] })

/** The last report of a turn that has ended with a result. */
const ended = fc
  .record(
    {
      kind: fc.constant('report'),
      run: name,
      generation: count,
      turn: count,
      epoch: name,
      n: count,
      state: fc.constant('done'),
      ops: fc.tuple(fc.array(step, { maxLength: 3 }), finish).map(([steps, end]) => [...steps, end]),
      replayMs: duration,
    },
    { requiredKeys: ['kind', 'run', 'generation', 'turn', 'epoch', 'n', 'state', 'ops'] },
  )
  .map(value => JSON.parse(JSON.stringify(value)) as Value)

const MEMBERS = {
  report: ['kind', 'run', 'generation', 'turn', 'epoch', 'n', 'state', 'ops', 'error', 'replayMs'],
  step: ['op', 'key', 'saw', 'attempt', 'output', 'error', 'retry', 'startedMs', 'durationMs'],
  finish: ['op', 'output'],
}

/** Values at and beyond limits, and of other kinds. */
const oddity = fc.oneof(
  json,
  fc.constantFrom<unknown>(...['running', 'done', 'continue', 'waiting', 'refused', 'finish', 'fail', 'step', 'send']),
  fc.constantFrom<unknown>(...[0, -1, 1.5, 2 ** 31, 2 ** 53, LIMITS.durationMs + 1, LIMITS.maxAttempts + 1]),
  fc.constantFrom<unknown>('', 'a#2', 'ä', 'a\n', 'x'.repeat(129), null, [], {}, { name: 'Error', message: 'm' }),
  fc.constantFrom<unknown>(
    [],
    [{ op: 'finish' }],
    [{ op: 'finish' }, { op: 'finish' }],
    [{ op: 'finish' }, { op: 'step', key: 'a', saw: 1, attempt: 1 }],
    [{ op: 'step', key: 'a', saw: 1, attempt: 1 }],
    [{ op: 'fail', error: { name: 'Error', message: 'm' } }],
  ),
)
const change = fc.record({
  // -1: of the report; else of the op there, counted from the end.
  at: fc.integer({ min: -1, max: 3 }),
  member: fc.constantFrom(...new Set([...MEMBERS.report, ...MEMBERS.step, 'unknown', '__proto__'])),
  isDeleted: fc.boolean(),
  value: oddity,
})

function changed(
  original: Value,
  { at, member, isDeleted, value }: typeof change extends fc.Arbitrary<infer T> ? T : never,
) {
  const copy = structuredClone(original)
  const target = at === -1 ? copy : Array.isArray(copy.ops) ? copy.ops.at(-1 - at) : undefined
  if (typeof target !== 'object' || target === null) return copy
  if (isDeleted) Reflect.deleteProperty(target, member)
  // As JSON.parse does it, also for `__proto__`.
  else Object.defineProperty(target, member, { value, enumerable: true, configurable: true, writable: true })
  return copy
}

/** The members that the protocol knows: the schema drops the others, and nothing looks at them. */
function known(value: Value): object {
  const ops = value.ops.map(op => pick(op, op.op === 'finish' ? MEMBERS.finish : MEMBERS.step))
  return { ...pick(value, MEMBERS.report), ops }
}

function pick(value: object, members: string[]): object {
  return Object.fromEntries(Object.entries(value).filter(([member]) => members.includes(member)))
}

test('a report of a turn that has ended with a result is plain', () => {
  fc.assert(
    fc.property(ended, value => {
      expect(isPlainReport(value)).toBe(true)
    }),
  )
})

test('what is taken for plain is what the schema takes, as it is', () => {
  let odd = 0
  fc.assert(
    fc.property(ended, fc.array(change, { minLength: 1, maxLength: 2 }), (value, changes) => {
      const candidate = changes.reduce(changed, value)
      fc.pre(isPlainReport(candidate))
      odd += 1

      expect(reportSchema.safeParse(structuredClone(candidate))).toEqual({ success: true, data: known(candidate) })
    }),
    { numRuns: 3_000 },
  )
  expect(odd).toBe(3_000)
})

describe('a report is left to the schema', () => {
  const aReport = (given: object) => ({
    ...{ kind: 'report', run: 'run_x', generation: 1, turn: 1, epoch: '1', n: 1, state: 'done' },
    ops: [{ op: 'finish' }],
    ...given,
  })
  const aStep = { op: 'step', key: 'a', saw: 1, attempt: 1 }

  test.each<[string, object]>([
    ['that ended without its op', { ops: [] }],
    ['that ended with a step', { ops: [aStep] }],
    ['that ended twice', { ops: [{ op: 'finish' }, { op: 'finish' }] }],
    ['whose end is not its last op', { ops: [{ op: 'finish' }, aStep] }],
    ['that failed', { ops: [{ op: 'fail', error: { name: 'Error', message: 'm' } }] }],
    ['that runs and has ended', { state: 'running' }],
    ['that waits', { state: 'waiting', ops: [] }],
    ['that goes on', { state: 'continue', ops: [aStep] }],
    ['with an error', { error: { name: 'Error', message: 'm' } }],
    ['with too many ops', { ops: [...Array.from({ length: LIMITS.opsPerReport }, () => aStep), { op: 'finish' }] }],
  ])('%s', (_what, given) => {
    expect(isPlainReport(aReport({}))).toBe(true)
    expect(isPlainReport(aReport(given))).toBe(false)
  })
})
