import { readFileSync } from 'node:fs'
import { fingerprint, responseId, verify } from '@stepwell/protocol'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createFunction, serve } from '../src/index.ts'
import { KEY, WORKSPACE } from './engine-double.ts'
import { aFunction, anApp } from './harness.ts'
import { AT, aRequest, DESCRIBE, OTHER_KEY, problemOf } from './requests.ts'

describe('an endpoint', () => {
  test('describes its functions, and signs the answer as the answer to this request', async () => {
    const endpoint = serve(
      [aFunction(() => 1), createFunction({ id: 'b', trigger: { event: 'x' }, handler: () => 1 })],
      { signingKey: KEY },
    )
    const request = aRequest(DESCRIBE)

    const response = await endpoint(request)

    const text = await response.text()
    const header = (name: string) => response.headers.get(`webhook-${name}`)
    const headers = { id: header('id'), timestamp: header('timestamp'), signature: header('signature') }
    expect(JSON.parse(text)).toMatchObject({
      kind: 'description',
      functions: [
        { id: 'fn', triggers: [{ event: 'test.started' }] },
        { id: 'b', triggers: [{ event: 'x' }] },
      ],
    })
    expect(verify({ headers, payload: text, secrets: [KEY], nowMs: Date.now() }).ok).toBe(true)
    expect(headers.id).toBe(responseId(request.headers.get('webhook-id') ?? ''))
  })

  test('tells its language and version', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
      version: string
    }

    const response = await anApp(() => 1)(aRequest(DESCRIBE))

    expect(((await response.json()) as { sdk: string }).sdk).toBe(`typescript/${version}`)
    expect(response.headers.get('stepwell-sdk')).toBe(`typescript/${version}`)
  })

  test('refuses other methods and says which one it takes', async () => {
    const response = await anApp(() => 1)(new Request('http://app/', { method: 'GET' }))

    expect(response.headers.get('allow')).toBe('POST')
    expect(await problemOf(response)).toMatchObject({ status: 405, code: 'method_not_allowed' })
  })

  test('refuses another key with 401 and shows its own fingerprint, never the key', async () => {
    const response = await anApp(() => 1)(aRequest(DESCRIBE, { key: OTHER_KEY }))

    const text = await response.text()
    expect(JSON.parse(text)).toMatchObject({ status: 401, code: 'signature_invalid', fingerprints: [fingerprint(KEY)] })
    expect(text).not.toContain(KEY.slice(6, 20))
  })

  test('accepts each of several keys, and signs with all of them', async () => {
    const endpoint = serve([aFunction(() => 1)], { signingKey: [KEY, OTHER_KEY] })

    const responses = await Promise.all([
      endpoint(aRequest(DESCRIBE)),
      endpoint(aRequest(DESCRIBE, { key: OTHER_KEY })),
    ])

    expect(responses.map(response => response.status)).toEqual([200, 200])
    expect(responses[0]?.headers.get('webhook-signature')?.split(' ')).toHaveLength(2)
  })

  test('says what it is to somebody who is no engine', async () => {
    const response = await anApp(() => 1)(new Request('http://app/', { method: 'POST', body: '{}' }))

    expect(await problemOf(response)).toMatchObject({
      status: 415,
      code: 'version_unknown',
      detail:
        'This is the endpoint of a Stepwell app; only the engine calls it. The request has no stepwell-version header.',
    })
  })

  test('refuses a request that is played back', async () => {
    const endpoint = anApp(() => 1)
    const request = aRequest(DESCRIBE)

    const first = await endpoint(request.clone())
    const second = await endpoint(request)

    expect(first.status).toBe(200)
    expect(await problemOf(second)).toMatchObject({ status: 401, code: 'request_replayed' })
  })

  test('refuses a workspace that differs from the signed one', async () => {
    const response = await anApp(() => 1)(aRequest(DESCRIBE, { headers: { 'stepwell-workspace': 'other/prod' } }))

    expect(await problemOf(response)).toMatchObject({ status: 401, code: 'signature_invalid' })
  })

  test('refuses a body over the limit while it is read', async () => {
    let sent = 0
    const body = new ReadableStream({
      pull: controller => {
        sent += 1
        controller.enqueue(new Uint8Array(1024 * 1024))
      },
    })
    const init = { method: 'POST', headers: aRequest('x').headers, body, duplex: 'half' as const }

    const response = await anApp(() => 1)(new Request('http://app/', init))

    expect(await problemOf(response)).toMatchObject({ status: 413, code: 'body_too_large' })
    expect(sent).toBeLessThan(45)
  })

  test('says that a body was consumed, and what to do', async () => {
    const request = aRequest(DESCRIBE)
    await request.text()

    const problem = await problemOf(await anApp(() => 1)(request))

    expect(problem).toMatchObject({ status: 400, code: 'body_invalid' })
    expect(problem.detail).toContain('app.post("/api/stepwell", serve(functions))\n  app.use(express.json())')
  })

  test('answers anything that is signed with 200 or a problem, never with a 500', async () => {
    const endpoint = anApp(({ step }) => step.sleep('a', 1))
    const noise = fc.anything({ withNullPrototype: false })
    const turn = fc
      .record(
        {
          kind: fc.constantFrom('turn', 'describe', 'probe', '__proto__', 7),
          workspace: fc.oneof(fc.constant(WORKSPACE), noise),
          function: fc.oneof({ weight: 5, arbitrary: fc.constant('fn') }, noise),
          run: fc.oneof({ weight: 5, arbitrary: fc.constant({ id: 'r', generation: 1 }) }, noise),
          turn: fc.oneof({ weight: 5, arbitrary: fc.constant(1) }, noise),
          epoch: fc.oneof({ weight: 5, arbitrary: fc.constant('e') }, noise),
          budgetMs: fc.oneof({ weight: 5, arbitrary: fc.constant(5) }, noise),
          reportUrl: fc.oneof({ weight: 5, arbitrary: fc.constant('http://127.0.0.1:9/') }, noise),
          journal: fc.array(
            fc.record(
              {
                seq: fc.oneof(fc.nat(3), noise),
                at: fc.oneof(fc.constant(AT), noise),
                type: fc.constantFrom(
                  'run_started',
                  'step_completed',
                  'step_failed',
                  'sleep_started',
                  'wait_opened',
                  'wait_matched',
                  'events_sent',
                  'toString',
                ),
                key: fc.oneof(fc.constant('a'), noise),
                saw: fc.oneof(fc.nat(3), noise),
                data: fc.oneof(fc.constant({ id: 'e', name: 'n', data: {}, ts: AT }), noise),
              },
              { requiredKeys: [] },
            ),
          ),
        },
        { requiredKeys: ['kind'] },
      )
      .map(value => safeText(value))
    const bodies = fc.oneof(
      turn,
      fc.json(),
      fc.string(),
      fc.uint8Array().map(bytes => Buffer.from(bytes)),
    )

    await fc.assert(
      fc.asyncProperty(bodies, async body => {
        const response = await endpoint(aRequest(body))

        expect([200, 400, 401, 404]).toContain(response.status)
        await response.text()
      }),
      { numRuns: 400 },
    )
  })

  test('answers any headers with a problem', async () => {
    const endpoint = anApp(() => 1)
    const text = fc.string({ unit: 'grapheme-ascii' })

    await fc.assert(
      fc.asyncProperty(text, text, text, text, async (id, timestamp, signature, version) => {
        const headers = { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature }
        const sent = new Headers(version === '' ? { ...headers, 'stepwell-version': '1' } : headers)
        const response = await endpoint(new Request('http://a/', { method: 'POST', headers: sent, body: DESCRIBE }))

        expect([401, 415]).toContain(response.status)
      }),
    )
  })
})

describe('serve refuses at once', () => {
  test.each<[string, () => unknown, RegExp]>([
    ['no functions', () => serve([]), /at least one function/],
    ['what is no function', () => serve([{} as never]), /createFunction/],
    ['the same id twice', () => serve([aFunction(() => 1), aFunction(() => 2)]), /two functions.*"fn"/],
    ['a malformed key', () => anApp(() => 1, { signingKey: 'secret' }), /whsec_/],
    ['no key in a list', () => anApp(() => 1, { signingKey: [] }), /no key/],
    ['no place for bodies', () => anApp(() => 1, { concurrency: 0 }), /concurrency/],
    ['an id with a slash', () => aFunction(() => 1, { id: 'a/b' }), /"a\/b"/],
    ['an empty id', () => aFunction(() => 1, { id: '' }), /needs an id/],
    ['a long id', () => aFunction(() => 1, { id: 'x'.repeat(129) }), /1 to 128/],
    ['no options', () => createFunction(undefined as never), /createFunction takes an object: createFunction\(\{ id/],
    [
      'a schedule',
      () => createFunction({ id: 'fn', trigger: { cron: '0 9 * * *' } } as never),
      /function "fn" has no event\. Schedules \(cron\)/,
    ],
    [
      'a trigger without an event',
      () => createFunction({ id: 'a', trigger: {}, handler: () => 1 } as never),
      /no event/,
    ],
    ['no handler', () => createFunction({ id: 'a', trigger: { event: 'x' } } as never), /no handler/],
    [
      'no schema',
      () => createFunction({ id: 'a', trigger: { event: 'x', schema: {} }, handler: () => 1 } as never),
      /Standard Schema/,
    ],
    ['bad retries', () => aFunction(() => 1, { retries: 1.5 }), /function "fn".*1.5/],
  ])('%s', (_name, make, message) => {
    expect(make).toThrow(message)
  })
})

function safeText(value: unknown): string {
  try {
    return JSON.stringify(value, (_name, member) => (typeof member === 'bigint' ? String(member) : member)) ?? 'null'
  } catch {
    return 'null'
  }
}
