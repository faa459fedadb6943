import { describe, expect, test } from 'vitest'
import type { Entry, Op, WireError } from '../src/index.ts'
import { entrySchema, turnSchema } from '../src/schemas.ts'
import { executeTurn } from './replay-model.ts'
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
    expect: { state: string; ops: ExpectedOp[]; error?: ExpectedError }
  }[]
}>('replay.json')

describe('the vectors of replay', () => {
  test.each(cases)('$name', async ({ program, journal, expect: expected }) => {
    const outcome = await executeTurn(program, journal)

    expect(outcome.state).toBe(expected.state)
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
      const follows = entry.type === 'step_due' || entry.type === 'sleep_completed' || entry.type.startsWith('wait_')
      if (follows && entry.type !== 'wait_opened') expect(open).toContain(entry.key)
      if (['sleep_started', 'wait_opened', 'step_retrying'].includes(entry.type)) open.add(entry.key)
      else if (entry.type !== 'step_due') settled.add(entry.key)
    }
  })

  test('have names of their own', () => {
    expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length)
  })
})

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
