import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fingerprint, newMessageId, responseId, signHeaders, verify } from '@stepwell/protocol'
import fc from 'fast-check'
import { Hono } from 'hono'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createFunction, serve } from '../src/index.ts'
import { KEY, WORKSPACE } from './engine-double.ts'
import { aFunction, anApp } from './harness.ts'

const OTHER_KEY = `whsec_${Buffer.alloc(32, 9).toString('base64')}`
const DESCRIBE = JSON.stringify({ kind: 'describe', workspace: WORKSPACE })
const at = '2026-01-01T00:00:00.000Z'

function aTurn(change: object = {}): object {
  return {
    kind: 'turn',
    workspace: WORKSPACE,
    function: 'fn',
    run: { id: 'run_1', generation: 1 },
    turn: 1,
    epoch: 'e1',
    budgetMs: 1_000,
    reportUrl: 'http://127.0.0.1:9/reports',
    journal: [{ seq: 1, turn: 1, at, type: 'run_started', data: { id: 'e', name: 'n', data: {}, ts: at } }],
    ...change,
  }
}

function aRequest(
  body: string | Uint8Array,
  options: { key?: string; headers?: Record<string, string>; method?: string } = {},
) {
  const signed = signHeaders({ id: newMessageId(), nowMs: Date.now(), payload: body, secrets: [options.key ?? KEY] })
  const headers = { 'stepwell-version': '1', 'stepwell-workspace': WORKSPACE, ...signed, ...options.headers }
  return new Request('http://app/api/stepwell', { method: options.method ?? 'POST', headers, body })
}

async function problemOf(response: Response): Promise<Record<string, unknown>> {
  return { status: response.status, ...((await response.json()) as object) }
}

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
                at: fc.oneof(fc.constant(at), noise),
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
                data: fc.oneof(fc.constant({ id: 'e', name: 'n', data: {}, ts: at }), noise),
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
  }, 60_000)

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
    ['no trigger', () => createFunction({ id: 'a', handler: () => 1 } as never), /no trigger/],
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

describe('one value mounts everywhere', () => {
  const servers: http.Server[] = []
  afterEach(() => {
    for (const server of servers.splice(0)) server.close()
  })

  async function listen(listener: http.RequestListener): Promise<string> {
    const server = http.createServer(listener)
    servers.push(server)
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/stepwell`
  }

  async function post(url: string, body: string): Promise<Response> {
    return fetch(url, { method: 'POST', body, headers: aRequest(body).headers })
  }

  test('as a fetch handler', async () => {
    const endpoint: (request: Request) => Promise<Response> = anApp(() => 1)

    expect((await endpoint(aRequest(DESCRIBE))).status).toBe(200)
  })

  test('in hono', async () => {
    const app = new Hono()
    app.post(
      '/api/stepwell',
      anApp(() => 1),
    )

    expect((await app.request(aRequest(DESCRIBE))).status).toBe(200)
  })

  test('in node:http', async () => {
    const url = await listen(anApp(() => 1))

    const answers = await Promise.all([post(url, DESCRIBE), post(url, DESCRIBE)])

    expect(answers.map(answer => answer.status)).toEqual([200, 200])
    expect((await fetch(url)).status).toBe(405)
  })

  test('in express, before the middleware that parses bodies', async () => {
    const endpoint = anApp(() => 1)
    const url = await listen((incoming, outgoing) => void endpoint(incoming, outgoing))

    expect((await post(url, DESCRIBE)).status).toBe(200)
  })

  test('after a middleware that kept the raw bytes', async () => {
    const endpoint = anApp(() => 1)
    const url = await listen(async (incoming, outgoing) => {
      const chunks: Buffer[] = []
      for await (const chunk of incoming) chunks.push(chunk as Buffer)
      await endpoint(Object.assign(incoming, { body: Buffer.concat(chunks) }), outgoing)
    })

    expect((await post(url, DESCRIBE)).status).toBe(200)
  })

  test('after a middleware that parsed the body it says what to do', async () => {
    const endpoint = anApp(() => 1)
    const url = await listen(async (incoming, outgoing) => {
      const chunks: Buffer[] = []
      for await (const chunk of incoming) chunks.push(chunk as Buffer)
      await endpoint(Object.assign(incoming, { body: JSON.parse(Buffer.concat(chunks).toString()) }), outgoing)
    })

    const problem = await problemOf(await post(url, DESCRIBE))

    expect(problem).toMatchObject({ status: 400, code: 'body_invalid' })
    expect(problem.detail).toContain('express.json()')
  })

  test('a body that breaks off is nobody’s error', async () => {
    const statuses: number[] = []
    const endpoint = anApp(() => 1)
    const url = new URL(
      await listen(async (incoming, outgoing) => {
        await endpoint(incoming, outgoing)
        statuses.push(outgoing.statusCode)
      }),
    )
    const headers = { ...Object.fromEntries(aRequest(DESCRIBE).headers), 'content-length': '1000' }
    const outgoing = http.request(url, { method: 'POST', headers })
    outgoing.on('error', () => {})
    outgoing.write('{"kind"', () => outgoing.destroy())

    await vi.waitFor(() => expect(statuses).toEqual([400]))
  })

  test('what is none of these is refused', async () => {
    await expect((anApp(() => 1) as (value: unknown) => Promise<unknown>)({})).rejects.toThrow(TypeError)
  })
})

describe('the key', () => {
  let home = ''
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'stepwell-'))
    vi.stubEnv('STEPWELL_HOME', home)
    vi.stubEnv('STEPWELL_SIGNING_KEY', undefined)
    vi.stubEnv('NODE_ENV', 'development')
  })
  afterEach(async () => {
    vi.unstubAllEnvs()
    await rm(home, { recursive: true })
  })

  function writeDevFile(signingKey: string): Promise<void> {
    return writeFile(join(home, 'dev.json'), JSON.stringify({ url: 'http://127.0.0.1:3030', pid: 1, signingKey }))
  }

  test('is looked for until there is one, so that app and engine start in any order', async () => {
    const endpoint = serve([aFunction(() => 1)])

    const before = await endpoint(aRequest(DESCRIBE))
    await writeDevFile(KEY)
    const after = await endpoint(aRequest(DESCRIBE))

    expect(await problemOf(before)).toMatchObject({
      status: 503,
      code: 'unavailable',
      detail: expect.stringContaining('STEPWELL_SIGNING_KEY'),
    })
    expect(after.status).toBe(200)
  })

  test('of the dev file is read again when it has changed', async () => {
    const endpoint = serve([aFunction(() => 1)])
    await writeDevFile(KEY)
    await endpoint(aRequest(DESCRIBE))
    await writeDevFile(OTHER_KEY)

    const response = await endpoint(aRequest(DESCRIBE, { key: OTHER_KEY }))

    expect(response.status).toBe(200)
  })

  test('of the dev file is not used in production', async () => {
    vi.stubEnv('NODE_ENV', 'production')
    await writeDevFile(KEY)

    const response = await serve([aFunction(() => 1)])(aRequest(DESCRIBE))

    expect(response.status).toBe(503)
  })

  test('of the environment comes before that of the dev file, and may be several', async () => {
    await writeDevFile(OTHER_KEY)
    vi.stubEnv('STEPWELL_SIGNING_KEY', ` ${KEY},\n${`whsec_${Buffer.alloc(32, 1).toString('base64')}`} `)
    const endpoint = serve([aFunction(() => 1)])

    expect((await endpoint(aRequest(DESCRIBE))).status).toBe(200)
    expect((await endpoint(aRequest(DESCRIBE, { key: OTHER_KEY }))).status).toBe(401)
  })

  test('of the environment that is malformed is told, and not shown', async () => {
    vi.stubEnv('STEPWELL_SIGNING_KEY', 'my-secret')

    const text = await (await serve([aFunction(() => 1)])(aRequest(DESCRIBE))).text()

    expect(text).toContain('STEPWELL_SIGNING_KEY is malformed')
    expect(text).not.toContain('my-secret')
  })

  test('that the engine has and the app has not makes a turn fail clearly', async () => {
    const response = await anApp(() => 1)(aRequest(JSON.stringify(aTurn()), { key: OTHER_KEY }))

    expect(response.status).toBe(401)
  })
})

function safeText(value: unknown): string {
  try {
    return JSON.stringify(value, (_name, member) => (typeof member === 'bigint' ? String(member) : member)) ?? 'null'
  } catch {
    return 'null'
  }
}
