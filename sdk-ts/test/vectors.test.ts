import { readFileSync } from 'node:fs'
import { type Entry, fingerprint, type Json, type Op, type Tags, type WireError } from '@stepwell/protocol'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { createFunction, serve } from '../src/index.ts'
import { EngineDouble, KEY } from './engine-double.ts'
import { type Program, toHandler } from './programs.ts'

interface WantedError {
  mentions: string[]
  code?: string
}

function readVectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../protocol/vectors/${name}`, import.meta.url), 'utf8')) as T
}

let engine: EngineDouble
beforeAll(async () => {
  engine = await new EngineDouble(serve([aFunction([])], { signingKey: KEY })).open()
})
afterAll(() => engine.close())

function aFunction(program: Program, id = 'fn') {
  return createFunction({ id, trigger: { event: 'order.placed' }, handler: toHandler(program) })
}

describe('the vectors of replay', () => {
  const { cases } = readVectors<{
    cases: {
      name: string
      program: Program
      journal: Entry[]
      status?: Json
      tags?: Tags
      expect: {
        state: string
        status?: Json
        tags?: Tags
        ops: { op: string; key?: string; error?: WantedError; retry?: { maxAttempts: number } }[]
        error?: WantedError
      }
    }[]
  }>('replay.json')

  test.each(cases)('$name', async ({ program, journal, status, tags, expect: wanted }) => {
    engine.deploy(serve([aFunction(program)], { signingKey: KEY }))
    const run = engine.start('fn')
    run.journal = structuredClone(journal)
    run.status = status
    run.tags = tags
    engine.batches.length = 0

    const report = await engine.turn(run)

    const reports = [...engine.batches.flatMap(batch => batch.reports), report]
    const ops = reports.flatMap(({ ops }) => ops)
    const lastOf = (name: 'status' | 'tags') => reports.findLast(report => name in report)?.[name]
    expect([lastOf('status'), lastOf('tags')]).toEqual([wanted.status, wanted.tags])
    expect(report.state).toBe(wanted.state)
    expect(ops.map(comparable).sort(byKey)).toEqual(wanted.ops.map(comparable).sort(byKey))
    expectError(report.error, wanted.error)
    for (const op of wanted.ops)
      expectError(errorOf(ops.find(({ op: kind, ...rest }) => kind === op.op && keyOf(rest) === keyOf(op))), op.error)
  })
})

describe('the vectors of turns', () => {
  interface Case {
    name: string
    body?: unknown
    bodyText?: string
    version?: string | null
    method?: string
    expect: { status: number; kind?: string; state?: string; code?: string }
  }
  const { functions, valid, invalid } = readVectors<{ functions: string[]; valid: Case[]; invalid: Case[] }>(
    'turns.json',
  )

  test.each([...valid, ...invalid])(
    '$name',
    async ({ body, bodyText, version = '1', method = 'POST', expect: wanted }) => {
      engine.deploy(request => {
        const headers = new Headers(request.headers)
        if (version === null) headers.delete('stepwell-version')
        const init =
          method === 'POST' ? { method, headers, body: request.body, duplex: 'half' as const } : { method, headers }
        return serve(
          functions.map(id => aFunction([{ return: null }], id)),
          { signingKey: KEY },
        )(new Request(request.url, init))
      })

      const headers = { 'stepwell-workspace': 'shop/dev', ...(version !== null && { 'stepwell-version': version }) }
      const { status, text } = await engine.post(bodyText ?? body, headers)

      const answer = JSON.parse(text)
      expect({ status, kind: answer.kind, state: answer.state, code: answer.code }).toEqual({
        kind: undefined,
        state: undefined,
        code: undefined,
        ...wanted,
      })
      if (status === 400 && answer.code === 'kind_unknown') expect(answer.kinds).toEqual(['describe', 'turn', 'turns'])
      if (answer.code === 'version_unknown') expect(answer.versions).toEqual(['1'])
      if (answer.code === 'function_not_found') expect(answer.functions).toEqual(functions)
    },
  )
})

describe('the vectors of signatures', () => {
  interface Case {
    name: string
    keys: string[]
    nowMs: number
    headers: { id: string | null; timestamp: string | null; signature: string | null }
    payload?: string
    payloadBase64?: string
    expect: { ok: boolean; code?: string }
  }
  const { cases } = readVectors<{ cases: Case[] }>('signature.json')
  // An endpoint without a key answers before it looks at signatures.
  const withKey = cases.filter(({ keys }) => keys.length > 0)

  beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'] }))
  afterEach(() => void vi.useRealTimers())

  test.each(withKey)('$name', async ({ keys, nowMs, headers, payload = '', payloadBase64, expect: wanted }) => {
    vi.setSystemTime(nowMs)
    const endpoint = serve([aFunction([])], { signingKey: keys })
    const body = payloadBase64 === undefined ? Buffer.from(payload) : Buffer.from(payloadBase64, 'base64')
    const sent = new Headers({ 'stepwell-version': '1' })
    for (const [name, value] of Object.entries(headers)) if (value !== null) sent.set(`webhook-${name}`, value)

    const response = await endpoint(new Request('http://app/', { method: 'POST', headers: sent, body }))

    const answer = (await response.json()) as { code: string; fingerprints?: string[] }
    if (wanted.ok) {
      expect(response.status).not.toBe(401)
      return
    }
    expect({ status: response.status, code: answer.code }).toEqual({ status: 401, code: wanted.code })
    expect(answer.fingerprints).toEqual(keys.map(fingerprint))
    for (const key of keys) expect(JSON.stringify(answer)).not.toContain(key.trim().slice(6, 20))
  })
})

function comparable(op: Op | object): object {
  const {
    error: _error,
    retry,
    startedMs: _started,
    durationMs: _duration,
    ageMs: _age,
    ...rest
  } = op as Record<string, unknown>
  const noAttemptIsLeft = (retry as { maxAttempts: number } | undefined)?.maxAttempts === rest.attempt
  return {
    ...rest,
    ...(retry !== undefined && !noAttemptIsLeft && { retry: (retry as { maxAttempts: number }).maxAttempts }),
  }
}

function byKey(a: object, b: object): number {
  return keyOf(a).localeCompare(keyOf(b))
}

function keyOf(op: object): string {
  return 'key' in op ? String(op.key) : '~'
}

function errorOf(op: Op | undefined): WireError | undefined {
  return op !== undefined && 'error' in op ? op.error : undefined
}

function expectError(error: WireError | undefined, wanted: WantedError | undefined): void {
  expect(error === undefined).toBe(wanted === undefined)
  for (const mention of wanted?.mentions ?? []) expect(error?.message).toContain(mention)
  if (wanted?.code !== undefined) expect(error?.code).toBe(wanted.code)
}
