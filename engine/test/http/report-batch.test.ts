import { LIMITS } from '@stepwell/protocol'
import { reportBatchSchema } from '@stepwell/protocol/schemas'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isPlainBatch } from '../../src/http/report-batch.ts'

type Batch = { reports: { ops: Record<string, unknown>[] }[] } & Record<string, unknown>

/** What JSON can hold, which is what a body brings. */
const json = fc.jsonValue({ maxDepth: 2 })
const name = fc.stringMatching(/^[A-Za-z0-9_.:#-]{1,128}$/)
const count = fc.integer({ min: 1, max: 2 ** 31 - 1 })
const duration = fc.double({ min: 0, max: LIMITS.durationMs, noNaN: true })

const op = fc.record(
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
const running = fc.record(
  {
    kind: fc.constant('report'),
    run: name,
    generation: count,
    turn: count,
    epoch: name,
    n: count,
    state: fc.constant('running'),
    ops: fc.array(op, { maxLength: 3 }),
    replayMs: duration,
  },
  { requiredKeys: ['kind', 'run', 'generation', 'turn', 'epoch', 'n', 'state', 'ops'] },
)
const finish = fc.record({ op: fc.constant('finish'), output: json }, { requiredKeys: ['op'] })
const report = fc.oneof(
  running,
  fc.tuple(running, finish).map(([one, end]) => ({ ...one, state: 'done', ops: [...one.ops, end] })),
)
const batch = fc
  .record({
    kind: fc.constant('reports'),
    workspace: name,
    reports: fc.array(report, { minLength: 1, maxLength: 3 }),
  })
  .map(value => JSON.parse(JSON.stringify(value)) as Batch)

const MEMBERS = [
  ...['kind', 'workspace', 'reports', 'run', 'generation', 'turn', 'epoch', 'n', 'state', 'ops', 'error', 'replayMs'],
  ...['op', 'key', 'saw', 'attempt', 'output', 'retry', 'startedMs', 'durationMs', 'askedMs', 'unknown', '__proto__'],
]
/** What is put in the place of a member: values at and beyond every limit, and of every other kind. */
const oddity = fc.oneof(
  json,
  fc.constantFrom<unknown>(
    ...[
      0,
      1,
      -0,
      -1,
      1.5,
      1e-7,
      2 ** 31 - 1,
      2 ** 31,
      2 ** 53,
      Number.POSITIVE_INFINITY,
      LIMITS.durationMs,
      LIMITS.durationMs + 1,
    ],
    ...[
      LIMITS.maxAttempts + 1,
      '',
      ' ',
      'a',
      '#',
      'a#',
      'a#2',
      'a#02',
      '#2',
      'a#0',
      'ä',
      'a\u0000',
      'a\n',
      '\u{1d11e}',
    ],
    ...['x'.repeat(128), 'x'.repeat(129), 'x'.repeat(256), 'x'.repeat(257)],
    ...['step', 'sleep', 'finish', 'fail', 'report', 'reports', 'running', 'done', 'continue', 'refused', 'waiting'],
    ...[null, true, [], {}, [[]], { op: 'finish' }, { name: 'Error', message: 'm' }],
  ),
)
const change = fc.record({
  level: fc.constantFrom('batch', 'report', 'first op', 'last op'),
  member: fc.constantFrom(...MEMBERS),
  how: fc.constantFrom('set', 'set', 'delete'),
  value: oddity,
})

/** Changes one member somewhere in a batch. */
function changed(
  original: Batch,
  { level, member, how, value }: typeof change extends fc.Arbitrary<infer T> ? T : never,
) {
  const copy = structuredClone(original)
  // An earlier change may have taken away what this one is about.
  const report = copy.reports?.[0]
  const target =
    level === 'batch' ? copy : level === 'report' ? report : report?.ops?.at?.(level === 'first op' ? 0 : -1)
  if (typeof target !== 'object' || target === null) return copy
  if (how === 'delete') Reflect.deleteProperty(target, member)
  // As JSON.parse does it, also for `__proto__`.
  else Object.defineProperty(target, member, { value, enumerable: true, configurable: true, writable: true })
  return copy
}

const KNOWN = {
  batch: ['kind', 'workspace', 'reports'],
  report: ['kind', 'run', 'generation', 'turn', 'epoch', 'n', 'state', 'ops', 'error', 'replayMs'],
  step: ['op', 'key', 'saw', 'attempt', 'output', 'error', 'retry', 'startedMs', 'durationMs'],
  finish: ['op', 'output'],
}

/** The members that the protocol knows: the schema drops the others, and nothing looks at them. */
function known(value: Batch): unknown {
  return {
    ...pick(value, KNOWN.batch),
    reports: value.reports.map(one => ({
      ...pick(one, KNOWN.report),
      ops: one.ops.map(op => pick(op, op.op === 'finish' ? KNOWN.finish : KNOWN.step)),
    })),
  }
}

function pick(value: object, members: string[]): object {
  return Object.fromEntries(Object.entries(value).filter(([member]) => members.includes(member)))
}

test('the batches that are most of all are plain', () => {
  fc.assert(
    fc.property(batch, value => {
      expect(isPlainBatch(value)).toBe(true)
    }),
  )
})

test('what is taken for plain is what the schema takes, as it is', () => {
  let plain = 0
  fc.assert(
    fc.property(batch, fc.array(change, { minLength: 1, maxLength: 2 }), (value, changes) => {
      const odd = changes.reduce(changed, value)
      fc.pre(isPlainBatch(odd))
      plain += 1

      expect(reportBatchSchema.safeParse(structuredClone(odd))).toEqual({ success: true, data: known(odd) })
    }),
    { numRuns: 3_000 },
  )
  expect(plain).toBe(3_000)
})

test.each<[string, unknown]>([
  ['nothing', undefined],
  ['null', null],
  ['a text', 'reports'],
  ['an array', []],
  ['no reports', { kind: 'reports', workspace: 'a/dev', reports: [] }],
  ['too many reports', { kind: 'reports', workspace: 'a/dev', reports: Array.from({ length: 1_001 }, () => ({})) }],
])('%s is not plain', (_what, value) => {
  expect(isPlainBatch(value)).toBe(false)
})
