import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LIMITS } from '../src/index.ts'
import * as schemas from '../src/schemas.ts'
import { firstProblems } from '../src/schemas.ts'
import { readVectors } from './vectors.ts'

const turns = readVectors<{
  valid: { name: string; body?: unknown; bodyText?: string; expect: { kind: string } }[]
  invalid: { name: string; body?: unknown; bodyText?: string; expect: { code: string } }[]
}>('turns.json')

const reports = readVectors<{
  valid: { name: string; journal: unknown[]; report: object }[]
  invalid: { name: string; report: unknown; path: string }[]
}>('reports.json')

describe('the vectors of turns', () => {
  test.each(turns.valid)('is well-formed: $name', ({ body, bodyText, expect: expected }) => {
    const schema = expected.kind === 'description' ? schemas.describeSchema : schemas.turnSchema

    expect(schema.safeParse(body ?? JSON.parse(bodyText ?? '')).error).toBeUndefined()
  })

  const malformed = turns.invalid.filter(({ body, expect: { code } }) => code === 'body_invalid' && body !== undefined)
  test.each(malformed)('is malformed: $name', ({ body }) => {
    expect(schemas.turnSchema.safeParse(body).success).toBe(false)
  })
})

describe('the vectors of reports', () => {
  test.each(reports.valid)('is well-formed: $name', ({ journal, report }) => {
    expect(schemas.reportSchema.safeParse(report).error).toBeUndefined()
    expect(journal.map(entry => schemas.entrySchema.parse(entry))).toEqual(journal)
  })

  test.each(reports.invalid)('is malformed: $name', ({ report, path }) => {
    expect(problemsOf(schemas.reportSchema, report)).toContain(path)
  })
})

describe('the body of POST /v1/events', () => {
  test('is one event, a list, or an object with a list', () => {
    const events = [{ name: 'a', data: { x: 1 }, id: 'e1', ts: '2026-01-01T00:00:00Z' }, { name: 'b' }]

    expect(schemas.eventsBodySchema.parse(events[0])).toEqual({ events: [events[0]] })
    expect(schemas.eventsBodySchema.parse(events)).toEqual({ events })
    expect(schemas.eventsBodySchema.parse({ events })).toEqual({ events })
    expect(schemas.eventsBodySchema.parse([])).toEqual({ events: [] })
  })

  test('has problems at the paths of the form that was sent', () => {
    expect(problemsOf(schemas.eventsBodySchema, { name: '' })).toEqual(['name'])
    expect(problemsOf(schemas.eventsBodySchema, [{ name: 'a' }, { name: 1 }])).toEqual(['[1].name'])
    expect(problemsOf(schemas.eventsBodySchema, { events: [{ name: 'a' }, { name: 'b', ts: 'x' }] })).toEqual([
      'events[1].ts',
    ])
  })

  test('is refused when it is something else', () => {
    for (const body of [null, undefined, 1, 'a', true, {}, { events: {} }, { events: null }, [[]], [null]]) {
      expect(schemas.eventsBodySchema.safeParse(body).success).toBe(false)
    }
  })

  test('holds at most 1,000 events', () => {
    const events = Array.from({ length: LIMITS.eventsPerCall + 1 }, () => ({ name: 'a' }))

    expect(schemas.eventsBodySchema.safeParse(events.slice(1)).success).toBe(true)
    expect(problemsOf(schemas.eventsBodySchema, events)).toEqual([''])
    expect(problemsOf(schemas.eventsBodySchema, { events })).toEqual(['events'])
  })
})

test('properties that are not known are dropped, not refused', () => {
  expect(schemas.newEventSchema.parse({ name: 'a', user: 'x' })).toEqual({ name: 'a' })
})

test('customers’ JSON passes unread and unchanged', () => {
  fc.assert(
    fc.property(fc.jsonValue(), data => {
      const parsed = schemas.newEventSchema.parse({ name: 'a', data })

      expect(parsed.data).toBe(data)
    }),
  )
})

test('an error that is too long is cut, not refused', () => {
  const long = 'x'.repeat(1_000_000)

  const error = schemas.wireErrorSchema.parse({ name: long, message: long, stack: long, code: long, other: long })

  expect(error.name).toHaveLength(LIMITS.errorNameChars)
  expect(error.message).toHaveLength(LIMITS.errorMessageChars)
  expect(error.stack).toHaveLength(LIMITS.errorStackChars)
  expect(error.code).toHaveLength(LIMITS.errorCodeChars)
  expect(error).not.toHaveProperty('other')
})

test('causes are kept to the depth of the limit, however deep they are nested', () => {
  const text = `${'{"name":"E","message":"m","cause":'.repeat(20_000)}null${'}'.repeat(20_000)}`

  let error = schemas.wireErrorSchema.parse(JSON.parse(text))

  for (let depth = 0; depth < LIMITS.errorCauseDepth; depth += 1) error = error.cause ?? fail(`no cause ${depth}`)
  expect(error.cause).toBeUndefined()
})

test('what is optional in an error and malformed is left out', () => {
  const error = schemas.wireErrorSchema.parse({ name: 'E', message: 'm', stack: 1, code: 404, cause: 'why' })

  expect(error).toEqual({ name: 'E', message: 'm' })
})

test('a match keeps a path that objects treat specially', () => {
  const op = JSON.parse('{"op":"wait","key":"w","saw":1,"event":"e","match":{"__proto__":"x","constructor":1}}')

  const parsed = schemas.opSchema.parse(op)

  expect(JSON.stringify(parsed)).toBe(JSON.stringify(op))
})

test('a match with a number that is not finite is refused', () => {
  const op = JSON.parse('{"op":"wait","key":"w","saw":1,"event":"e","match":{"a":1e999}}')

  expect(problemsOf(schemas.opSchema, op)).toEqual(['match.a'])
})

test('half a surrogate pair in a name is refused', () => {
  expect(problemsOf(schemas.newEventSchema, JSON.parse('{"name":"a\\ud83d"}'))).toEqual(['name'])
})

test('a description names each function once', () => {
  const describeAs = (...ids: string[]) => ({
    kind: 'description',
    sdk: 'typescript/0.1.0',
    functions: ids.map(id => ({ id, triggers: [{ event: 'a' }] })),
  })

  expect(schemas.descriptionSchema.safeParse(describeAs('a', 'A.b_c-1')).success).toBe(true)
  expect(problemsOf(schemas.descriptionSchema, describeAs('a', 'b', 'a'))).toEqual(['functions[2].id'])
  for (const id of ['', 'a b', 'ä', 'a/b', 'x'.repeat(129), 'a\n']) {
    expect(problemsOf(schemas.descriptionSchema, describeAs(id))).toContain('functions[0].id')
  }
})

test('a sync names an absolute http URL', () => {
  const isUrl = (url: unknown) => schemas.syncRequestSchema.safeParse({ url }).success

  for (const url of ['http://localhost:3000/api/stepwell', 'https://app.example/x?y=1', 'http://[::1]:1/']) {
    expect(isUrl(url)).toBe(true)
  }
  for (const url of [
    '',
    '/api',
    'localhost:3000',
    'ftp://x/',
    'javascript:alert(1)',
    'http://',
    `http://x/${'x'.repeat(3_000)}`,
  ]) {
    expect(isUrl(url)).toBe(false)
  }
})

test('acknowledgements are told apart by their status', () => {
  const ack = { run: 'run_1', n: 1 }
  const refusal = { ...ack, status: 409, code: 'stale_epoch', message: 'm' }
  const batch = { kind: 'acks', acks: [{ ...ack, status: 200, entries: [], yield: true }, refusal] }

  expect(schemas.ackBatchSchema.parse(batch)).toEqual(batch)
  expect(problemsOf(schemas.ackBatchSchema, { kind: 'acks', acks: [{ ...ack, status: 409 }] })).toContain(
    'acks[0].code',
  )
  expect(schemas.ackBatchSchema.safeParse({ kind: 'acks', acks: [{ ...refusal, status: 500 }] }).success).toBe(false)
})

test('a batch holds 1 to 1,000 reports', () => {
  const report = reports.valid[0]?.report
  const batchOf = (length: number) => ({ kind: 'reports', workspace: 'a/dev', reports: Array(length).fill(report) })

  expect(schemas.reportBatchSchema.safeParse(batchOf(1_000)).success).toBe(true)
  for (const length of [0, 1_001]) expect(problemsOf(schemas.reportBatchSchema, batchOf(length))).toEqual(['reports'])
})

test('only the first problems are told, and never at length', () => {
  const events = Array.from({ length: 50 }, () => ({ name: '' }))
  const match = { ['x'.repeat(100_000)]: 1 }

  const many = schemas.eventsBodySchema.safeParse(events)
  const long = schemas.opSchema.safeParse({ op: 'wait', key: 'w', saw: 1, event: 'e', match })

  expect(many.error && firstProblems(many.error)).toHaveLength(10)
  expect(many.error && firstProblems(many.error, 3)).toHaveLength(3)
  expect(long.error && JSON.stringify(firstProblems(long.error)).length).toBeLessThan(1_000)
})

test('garbage is refused and never throws', () => {
  const all = Object.values(schemas).filter(schema => 'safeParse' in schema)
  expect(all).toHaveLength(16)
  const members = ['kind', 'op', 'type', 'run', 'ops', 'match', 'error', 'events', 'name', 'until', 'key', '__proto__']
  const value = fc.letrec(tie => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom('turn', 'report', 'step', 'wait', 'sleep', 'finish', 1, null, ''),
      fc.anything(),
      fc.dictionary(fc.constantFrom(...members), tie('tree')),
      fc.array(tie('tree'), { maxLength: 3 }),
    ),
  })).tree
  fc.assert(
    fc.property(value, input => {
      for (const schema of all) {
        const { error } = schema.safeParse(input)
        if (error) expect(firstProblems(error).length).toBeGreaterThan(0)
      }
    }),
    { numRuns: 1_000 },
  )
})

function problemsOf(
  schema: { safeParse(value: unknown): { error?: Parameters<typeof firstProblems>[0] } },
  value: unknown,
) {
  const { error } = schema.safeParse(value)
  return error === undefined ? [] : firstProblems(error).map(({ path }) => path)
}

function fail(message: string): never {
  throw new Error(message)
}
