/*
 * Rubbish to every route: whatever comes, the answer is one that we mean, and never a failure of ours.
 */

import { HEADERS } from '@stepwell/protocol'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { problemOf, useHttp } from './harness.ts'

const RUNS = Number(process.env.STEPWELL_TEST_FUZZ_RUNS ?? 150)
const TIME_LIMIT_MS = 120_000
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH']
const ROUTES = [
  '/v1/events',
  '/v1/reports',
  '/v1/sync',
  '/v1/runs',
  '/v1/runs/x',
  '/v1/runs/x/journal',
  '/v1/openapi.json',
  '/livez',
  '/readyz',
]

const dev = useHttp('dev')
const start = useHttp('start')

beforeAll(async () => {
  await dev.serve({ work: 'work.asked' })
})

/** An answer that we mean: no failure of ours, and a problem document when it is an error. */
async function expectMeant(response: Response, method: string): Promise<void> {
  expect(response.status).not.toBe(500)
  expect(response.status).toBeLessThan(500)
  if (response.status >= 400 && method !== 'HEAD' && !isAcks(response)) await problemOf(response)
}

/** 409, 421 and 422 of a batch whose every report was refused. */
function isAcks(response: Response): boolean {
  return response.headers.get('content-type') === 'application/json' && [409, 421, 422].includes(response.status)
}

/** JSON that has the members which routes look for, with anything in them. */
const rubbish = fc.letrec<{ value: unknown }>(tie => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.jsonValue(),
    fc.string({ unit: 'binary' }),
    fc.double(),
    fc.constantFrom(
      'work.asked',
      'default/dev',
      'reports',
      'report',
      'step',
      'running',
      'run_01m7wfht8ge82r73aq1n8pj7ng',
      '2026-01-31T12:00:00Z',
      '\u0000',
      '\ud800',
      1e308,
      -0,
    ),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(
      fc.constantFrom(
        'events',
        'name',
        'data',
        'id',
        'ts',
        'url',
        'functions',
        'kind',
        'workspace',
        'reports',
        'run',
        'generation',
        'turn',
        'epoch',
        'n',
        'state',
        'ops',
        'op',
        'key',
        'saw',
        'error',
        '__proto__',
        'constructor',
        'toString',
      ),
      tie('value'),
      { maxKeys: 8 },
    ),
  ),
})).value

const aReport = fc.record({
  kind: fc.constant('report'),
  run: fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('run_01m7wfht8ge82r73aq1n8pj7ng', 'RUN_01M7WFHT8GE82R73AQ1N8PJ7NG'),
  ),
  generation: fc.integer({ min: 1 }),
  turn: fc.integer({ min: 1 }),
  epoch: fc.oneof(fc.string({ unit: 'binary' }), fc.bigInt({ min: 0n, max: 2n ** 80n }).map(String)),
  n: fc.integer({ min: 1 }),
  state: fc.constantFrom('running', 'continue', 'waiting'),
  ops: fc.constant([]),
})

/** Almost what routes take: the schemas let it through, and what is behind them gets to see it. */
const almost = fc.oneof(
  fc.record({
    name: fc.string({ unit: 'binary', minLength: 1, maxLength: 300 }),
    data: fc.jsonValue(),
    id: fc.string({ unit: 'binary', minLength: 1 }),
  }),
  fc.array(
    fc.record({
      name: fc.constantFrom('work.asked', 'other'),
      data: rubbish,
      ts: fc.date().map(date => (Number.isNaN(date.getTime()) ? '' : date.toISOString())),
    }),
    { maxLength: 5 },
  ),
  fc.record({
    kind: fc.constant('reports'),
    workspace: fc.constantFrom('default/dev', 'shop/prod', 'x'),
    reports: fc.array(aReport, { minLength: 1, maxLength: 3 }),
  }),
  fc.record({
    url: fc.oneof(
      fc.constant('http://127.0.0.1:1/'),
      fc.string().map(text => `http://127.0.0.1:1/${text}`),
    ),
  }),
)

const bytes = fc.oneof(
  rubbish.map(value => JSON.stringify(value) ?? 'undefined'),
  almost.map(value => JSON.stringify(value)),
  fc.string({ unit: 'binary' }),
  fc.uint8Array({ maxLength: 200 }),
)

const headerValue = fc.string({
  unit: fc
    .integer({ min: 0x20, max: 0xff })
    .filter(code => code !== 0x7f)
    .map(code => String.fromCharCode(code)),
  maxLength: 60,
})
const headers = fc.dictionary(
  fc.constantFrom(
    ...Object.values(HEADERS),
    'content-type',
    'content-length',
    'content-encoding',
    'accept',
    'x-request-id',
    'transfer-encoding',
    'range',
    'if-none-match',
  ),
  fc.oneof(
    headerValue,
    fc.constantFrom('1', 'default/dev', 'shop/prod', '0', '-1', '1e99', 'v1,AAAA', 'gzip', 'chunked'),
  ),
  { maxKeys: 6 },
)

const path = fc.oneof(
  fc.constantFrom(...ROUTES),
  fc.webPath().map(text => `/v1/runs/${text}`),
  fc.string({ unit: 'binary', maxLength: 40 }).map(text => `/v1/runs/${encodeURIComponent(wellFormed(text))}/journal`),
  fc.webPath({ size: 'medium' }).map(text => (text.startsWith('/') ? text : `/${text}`)),
  fc.constantFrom(
    '/%',
    '/%00',
    '/%ff',
    '/v1/runs/%',
    '/v1/runs/%c0%80',
    '/v1/%2e%2e/runs',
    '/v1//runs',
    '/v1/runs/..%2f..',
    '/v1/runs/\u{1f600}',
  ),
)

const query = fc.oneof(
  fc.constant(''),
  fc.webQueryParameters().map(text => `?${text}`),
  fc
    .array(
      fc.tuple(
        fc.constantFrom('limit', 'cursor', 'state', 'function', 'after', '__proto__', 'constructor'),
        fc.oneof(
          fc.string({ unit: 'binary', maxLength: 30 }),
          fc.integer().map(String),
          fc.constantFrom('queued', 'run_01m7wfht8ge82r73aq1n8pj7ng'),
        ),
      ),
      { maxLength: 4 },
    )
    .map(pairs => `?${pairs.map(([name, value]) => `${name}=${encodeURIComponent(wellFormed(value))}`).join('&')}`),
)

const settings = { numRuns: RUNS, interruptAfterTimeLimit: TIME_LIMIT_MS, endOnFailure: false }

describe('rubbish is answered with a meant error', () => {
  test('in bodies of unsigned requests', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('/v1/events', '/v1/sync', '/v1/reports'), bytes, async (route, raw) => {
        await expectMeant(await dev.call('POST', route, undefined, { raw }), 'POST')
      }),
      settings,
    )
  })

  test('in bodies that are signed well', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('/v1/events', '/v1/sync', '/v1/reports'), bytes, async (route, raw) => {
        await expectMeant(await start.signed('POST', route, undefined, { raw }), 'POST')
      }),
      settings,
    )
  })

  test('in headers', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...METHODS),
        fc.constantFrom(...ROUTES),
        headers,
        fc.constantFrom(dev, start),
        async (method, route, given, http) => {
          const body = method === 'POST' || method === 'PUT' ? { raw: '{"name":"a"}' } : {}
          const response = await http.call(method, route, undefined, { headers: given, ...body }).catch(refusedByClient)
          if (response !== null) await expectMeant(response, method)
        },
      ),
      settings,
    )
  })

  test('in paths and queries', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...METHODS), path, query, async (method, target, search) => {
        await expectMeant(await dev.call(method, target + search), method)
        await expectMeant(await start.call(method, target + search), method)
      }),
      settings,
    )
  })
})

test('rubbish has stored nothing where everything is signed', async () => {
  const before = await start.stored()

  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...METHODS),
      fc.constantFrom(...ROUTES),
      headers,
      bytes,
      async (method, route, given, raw) => {
        const body = method === 'GET' || method === 'HEAD' ? {} : { raw }
        await start.call(method, route, undefined, { headers: given, ...body }).catch(refusedByClient)
      },
    ),
    settings,
  )

  expect(await start.stored()).toEqual(before)
})

/** Halves of surrogate pairs replaced: encodeURIComponent takes none. */
function wellFormed(text: string): string {
  return Buffer.from(text).toString('utf8')
}

/** Header values that the test's own client does not send. Anything else is a failure. */
function refusedByClient(error: unknown): null {
  if (error instanceof TypeError && /header|ByteString/i.test(error.message)) return null
  throw error
}
