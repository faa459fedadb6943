import { describe, expect, test } from 'vitest'
import { type Entry, type Op, SETTLING_TYPES, type WireError } from '../src/index.ts'
import { entrySchema, turnSchema } from '../src/schemas.ts'
import { executeTurn, type Said } from './replay-model.ts'
import type { Program } from './replay-program.ts'
import { readVectors } from './vectors.ts'

interface ExpectedError {
  mentions: string[]
  code?: string
}
/** As on the wire, but for errors and retry policies. */
type ExpectedOp = { op: Op['op']; key?: string; error?: ExpectedError; retry?: { maxAttempts: number } }

const { cases } = readVectors<{
  cases: {
    name: string
    program: Program
    journal: Entry[]
    status?: Said['status']
    tags?: Said['tags']
    expect: { state: string; ops: ExpectedOp[]; error?: ExpectedError } & Said
  }[]
}>('replay.json')

describe('the vectors of replay', () => {
  test.each(cases)('$name', async ({ program, journal, status, tags, expect: expected }) => {
    const said = { ...(status !== undefined && { status }), ...(tags !== undefined && { tags }) }
    const outcome = await executeTurn(program, journal, said)

    expect(outcome.state).toBe(expected.state)
    expect([outcome.status, outcome.tags]).toEqual([expected.status, expected.tags])
    expect(outcome.ops.map(comparable).sort(byKey)).toEqual(expected.ops.map(withoutError).sort(byKey))
    const pairs: [WireError | undefined, ExpectedError | undefined][] = [[outcome.error, expected.error]]
    for (const wanted of expected.ops) pairs.push([errorOf(outcome.ops.find(op => isSameOp(op, wanted))), wanted.error])
    for (const [error, wanted] of pairs) {
      expect(error === undefined).toBe(wanted === undefined)
      for (const mention of wanted?.mentions ?? []) expect(error?.message).toContain(mention)
      if (wanted?.code !== undefined) expect(error?.code).toBe(wanted.code)
    }
  })

  test.each(cases)('is a well-formed turn: $name', ({ journal }) => {
    expect(journal.map(entry => entrySchema.parse(entry))).toEqual(journal)
    expect(turnSchema.shape.journal.safeParse(journal).success).toBe(true)
  })

  test.each(cases)('has a journal that an engine could have written: $name', ({ journal }) => {
    const open = new Set<string>()
    const settled = new Set<string>()
    for (const entry of journal) {
      if (!('key' in entry)) continue
      if ('saw' in entry) expect(entry.saw).toBeLessThan(entry.seq)
      expect(settled).not.toContain(entry.key)
      const follows = FOLLOWING.has(entry.type) && !(entry.type === 'child_failed' && 'saw' in entry)
      if (follows) expect(open).toContain(entry.key)
      if (OPENING.has(entry.type)) open.add(entry.key)
      else if (SETTLING.has(entry.type)) settled.add(entry.key)
    }
  })

  test('have names of their own', () => {
    expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length)
  })
})

const SETTLING: ReadonlySet<string> = new Set(SETTLING_TYPES)
const OPENING: ReadonlySet<string> = new Set([
  'step_retrying',
  'sleep_started',
  'wait_opened',
  'signal_awaited',
  'child_started',
])
/** What comes for something that is open. */
const FOLLOWING: ReadonlySet<string> = new Set([
  'step_due',
  'sleep_completed',
  'wait_matched',
  'wait_expired',
  'signal_received',
  'signal_expired',
  'child_completed',
  'child_failed',
  'child_expired',
])

/** What is compared of an op besides its error. */
function comparable(op: Op): object {
  if (op.op !== 'step') return withoutError(op)
  const { retry, ...rest } = op
  return { ...withoutError(rest), ...(retry !== undefined && { retry: { maxAttempts: retry.maxAttempts } }) }
}

function withoutError({ error: _, ...rest }: { op: string; error?: unknown }): object {
  return rest
}

function byKey(a: object, b: object): number {
  return String('key' in a ? a.key : '~').localeCompare(String('key' in b ? b.key : '~'))
}

function isSameOp(op: Op, wanted: ExpectedOp): boolean {
  return op.op === wanted.op && ('key' in op ? op.key : undefined) === wanted.key
}

function errorOf(op: Op | undefined): WireError | undefined {
  return op !== undefined && 'error' in op ? op.error : undefined
}
