/*
 * The protocol's vectors, as the engine runs them: which reports it takes, what it records for each op, and how a run ends.
 */
import { readFileSync } from 'node:fs'
import {
  type Entry,
  type Json,
  type Report,
  type RunState,
  type Tags,
  verify,
  type WireError,
} from '@stepwell/protocol'
import { firstProblems, reportSchema } from '@stepwell/protocol/schemas'
import { expect, test } from 'vitest'
import type { Change } from '../../src/core/change.ts'
import { decide } from '../../src/core/decide.ts'
import { applyEntry, newSnapshot, type Snapshot } from '../../src/core/snapshot.ts'

interface ReportVectors {
  nowMs: number
  /** The functions of the workspace, and the id of the next run. */
  functions: string[]
  childUuid: string
  valid: {
    name: string
    journal: Entry[]
    report: Report
    records: ({ dueAfterMs?: [number, number]; code?: string; data?: Json } & Record<string, Json>)[]
    ends?: RunState | 'next_generation'
    status?: Json
    tags?: Tags
  }[]
  invalid: { name: string; report: unknown; path: string }[]
}

function readVectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../../protocol/vectors/${name}`, import.meta.url), 'utf8')) as T
}

const reports = readVectors<ReportVectors>('reports.json')

function snapshotOf(journal: Entry[]): Snapshot {
  const snapshot = newSnapshot({
    runId: '01900000-0000-7000-8000-000000000000',
    generation: 1,
    turn: 1,
    nowMs: reports.nowMs,
    trouble: null,
    wantsUndo: false,
    functions: new Set(reports.functions),
  })
  for (const entry of journal)
    applyEntry(snapshot, {
      type: entry.type,
      key: 'key' in entry ? entry.key : null,
      data: 'data' in entry ? JSON.stringify(entry.data) : null,
    })
  return snapshot
}

/** A recorded line as the vectors write it: without the due time, which is compared by its bounds. */
function lineOf(change: Extract<Change, { kind: 'record' }>): {
  line: Record<string, unknown>
  dueAfterMs: number | null
} {
  const { type, key, saw } = change
  const data = change.data === null ? undefined : (JSON.parse(change.data) as Record<string, Json>)
  if (type === 'child_failed') {
    // What the engine says in words is its own.
    const { error } = data as unknown as { error: WireError }
    expect(error.message).not.toBe('')
    return { line: { type, key, saw, code: error.code }, dueAfterMs: null }
  }
  const isRetry = type === 'step_retrying'
  const dueAt = isRetry ? String(data?.dueAt) : null
  if (isRetry) delete data?.dueAt
  return {
    line: { type, key, saw, ...(data === undefined ? {} : { data }) },
    dueAfterMs: dueAt === null ? null : Date.parse(dueAt) - reports.nowMs,
  }
}

// both ends of the jitter
const CASES = reports.valid.flatMap(vector => [0, 1].map(dice => ({ ...vector, dice })))

test.each(CASES)('$name (dice $dice)', ({ journal, report, records, ends, status, tags, dice }) => {
  expect(reportSchema.safeParse(report).error).toBeUndefined()

  const changes = decide(
    snapshotOf(journal),
    { kind: 'report', report, isResponse: report.state !== 'running' },
    { dice: () => dice, newUuid: () => reports.childUuid },
  )

  const lines = changes.filter(change => change.kind === 'record').map(lineOf)
  expect(lines.map(({ line }) => line)).toEqual(records.map(({ dueAfterMs: _due, ...line }) => line))
  for (const [index, { dueAfterMs }] of records.entries())
    if (dueAfterMs !== undefined) expect(lines[index]?.dueAfterMs).toBe(dueAfterMs[dice])
  expect(endOf(changes.at(-1))).toBe(ends)
  const said = changes.flatMap(change => (change.kind === 'set_status' ? [JSON.parse(change.status)] : []))
  expect(said).toEqual(status === undefined ? [] : [status])
  const tagged = changes.flatMap(change => (change.kind === 'set_tags' ? [change.tags] : []))
  expect(tagged).toEqual(tags === undefined ? [] : [tags])
})

function endOf(settle: Change | undefined): RunState | 'next_generation' | undefined {
  if (settle?.kind !== 'settle') throw new Error('a decision ends with a settle')
  if (settle.step === 'done') return settle.state
  return settle.step === 'next_generation' ? settle.step : undefined
}

test.each(reports.invalid)('refused: $name', ({ report, path }) => {
  const { error } = reportSchema.safeParse(report)

  expect(error).toBeDefined()
  if (error !== undefined) expect(firstProblems(error, 100).map(problem => problem.path)).toContain(path)
})

interface SignatureVectors {
  cases: {
    name: string
    keys: string[]
    nowMs: number
    headers: { id?: string; timestamp?: string; signature?: string }
    payload?: string
    payloadBase64?: string
    expect: { ok: boolean; id?: string; code?: string }
  }[]
}

test.each(readVectors<SignatureVectors>('signature.json').cases)('signature: $name', vector => {
  const { id, timestamp, signature } = vector.headers
  const payload =
    vector.payloadBase64 === undefined ? (vector.payload ?? '') : Buffer.from(vector.payloadBase64, 'base64')

  const verified = verify({ headers: { id, timestamp, signature }, payload, secrets: vector.keys, nowMs: vector.nowMs })

  const { ok, id: acceptedId, code } = vector.expect
  expect(verified).toMatchObject({ ok, ...(acceptedId && { id: acceptedId }), ...(code && { code }) })
})
