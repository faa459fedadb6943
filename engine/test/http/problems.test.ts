import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createEngine, type Engine } from '../../src/engine.ts'
import { createHttp } from '../../src/http/app.ts'
import type { HttpApp } from '../../src/http/context.ts'
import { createLog } from '../../src/log.ts'
import { problemOf, useHttp } from './harness.ts'

const http = useHttp('dev')

describe('what is not there', () => {
  test.each([
    '/',
    '/v1',
    '/v1/',
    '/v1/event',
    '/v1/runs/a/b',
    '/v1/events/',
    '/V1/events',
    '/api',
    '//v1/runs',
    '/v1/runs/',
  ])('%s is 404', async path => {
    const response = await http.call('GET', path)

    expect(response.status).toBe(404)
    expect((await problemOf(response)).code).toBe('not_found')
  })

  test.each([
    ['/v1/events', 'GET', 'POST'],
    ['/v1/events', 'PUT', 'POST'],
    ['/v1/events', 'OPTIONS', 'POST'],
    ['/v1/sync', 'DELETE', 'POST'],
    ['/v1/runs', 'POST', 'GET, HEAD'],
    ['/v1/runs/run_01m7wfht8ge82r73aq1n8pj7ng', 'PATCH', 'GET, HEAD'],
    ['/v1/runs/run_01m7wfht8ge82r73aq1n8pj7ng/journal', 'POST', 'GET, HEAD'],
    ['/v1/openapi.json', 'POST', 'GET, HEAD'],
    ['/livez', 'POST', 'GET, HEAD'],
    ['/readyz', 'DELETE', 'GET, HEAD'],
    ['/v1/events', 'PURGE', 'POST'],
  ])('%s does not take %s', async (path, method, allow) => {
    const response = await http.call(method, path)

    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe(allow)
    expect((await problemOf(response)).code).toBe('method_not_allowed')
  })

  test('HEAD is GET without the body', async () => {
    const response = await http.call('HEAD', '/v1/runs')

    expect(response.status).toBe(200)
    expect(await response.text()).toBe('')
  })
})

test('every answer has an id of its own', async () => {
  const responses = await Promise.all([
    http.call('GET', '/livez'),
    http.call('GET', '/nothing'),
    http.call('GET', '/v1/runs'),
  ])

  const ids = responses.map(response => response.headers.get('x-request-id'))
  expect(new Set(ids).size).toBe(3)
  expect(ids.every(id => id?.startsWith('req_'))).toBe(true)
})

test('the description of the API has every route, and every route is described', async () => {
  const response = await http.call('GET', '/v1/openapi.json')

  const document = (await response.json()) as { openapi: string; paths: Record<string, Record<string, unknown>> }
  const described = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map(method => `${method.toUpperCase()} ${path}`),
  )
  const mounted = http.app.routes
    .filter(route => route.method !== 'ALL')
    .map(route => `${route.method} ${route.path.replace(/:(\w+)/g, '{$1}')}`)
  expect(document.openapi).toBe('3.1.0')
  expect(described.sort()).toEqual(mounted.sort())
  expect(described).toContain('POST /v1/events')
})

describe('a failure of ours', () => {
  test('is 500 without stack or SQL, and in the log once with the request id', async () => {
    await http.sql`alter table stepwell.events rename to events_gone`
    http.logged.length = 0

    const response = await http.call('POST', '/v1/events', { name: 'a' })
    await http.sql`alter table stepwell.events_gone rename to events`

    expect(response.status).toBe(500)
    const text = await response.clone().text()
    const problem = await problemOf(response)
    expect(problem.code).toBe('internal')
    expect(text).not.toMatch(/stepwell\.|relation|42P01|\.ts:/)
    expect(http.logged).toHaveLength(1)
    expect(http.logged[0]).toMatchObject({
      level: 'error',
      requestId: problem.requestId,
      path: '/v1/events',
      err: { message: expect.stringContaining('events') },
    })
  })

  test('is not logged when it is the sender’s', async () => {
    http.logged.length = 0

    await http.call('POST', '/v1/events', { name: '' })
    await http.call('GET', '/v1/runs?limit=0')

    expect(http.logged).toEqual([])
  })
})

describe('an engine without its database', () => {
  let engine: Engine
  let app: HttpApp

  beforeAll(() => {
    // Nobody listens on port 1.
    const connection = { host: '127.0.0.1', port: 1, user: 'a', password: 'b', database: 'c' }
    const log = createLog('silent')
    engine = createEngine({ connection, log, selfUrl: 'http://127.0.0.1:1' })
    app = createHttp({ engine, mode: 'dev', log })
  })
  afterAll(() => engine.stop(0))

  const request = (method: string, path: string) =>
    app.request(
      path,
      { method, ...(method === 'POST' ? { body: '{"name":"a"}' } : {}) },
      { incoming: { socket: { remoteAddress: '127.0.0.1' } } },
    )

  test.each([
    ['POST', '/v1/events'],
    ['GET', '/v1/runs'],
    ['GET', '/v1/runs/run_01m7wfht8ge82r73aq1n8pj7ng'],
    ['GET', '/readyz'],
  ])('answers 503 and when to come back to %s %s', async (method, path) => {
    const response = await request(method, path)

    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('1')
    expect((await problemOf(response)).code).toBe('unavailable')
  })

  test('lives', async () => {
    const response = await request('GET', '/livez')

    expect(response.status).toBe(200)
  })
})

test('an engine that is about to stop is live and not ready', async () => {
  const stopping = { ...http.engine, isDraining: () => true }
  const app = createHttp({ engine: stopping, mode: 'start', log: createLog('silent') })

  const [live, ready] = [await app.request('/livez'), await app.request('/readyz')]

  expect(live.status).toBe(200)
  expect(ready.status).toBe(503)
  expect((await problemOf(ready)).code).toBe('draining')
})
