import { describe, expect, test } from 'vitest'
import { problemOf, useHttp } from './harness.ts'

const http = useHttp('dev')
const EVENT = { name: 'a.one' }

const PATHS = [
  ['POST', '/v1/events'],
  ['POST', '/v1/sync'],
  ['POST', '/v1/reports'],
  ['GET', '/v1/runs'],
  ['GET', '/livez'],
  ['GET', '/readyz'],
  ['GET', '/nothing'],
] as const

describe('a dev engine is out of reach of web pages', () => {
  test.each([
    'evil.example',
    'evil.example:3030',
    'localhost.evil.example',
    'notlocalhost',
    '127.0.0.1.evil.example',
    '127.0.0.2:3030',
    '0.0.0.0:3030',
    '192.168.1.7:3030',
    '[::2]:3030',
    'localhost:3030, evil.example',
    'localhost@evil.example',
    '',
  ])('that reach it under the name %j', async host => {
    for (const [method, path] of PATHS) {
      const before = await http.stored()

      const response = await http.call(method, path, method === 'POST' ? EVENT : undefined, { headers: { host } })

      expect(response.status).toBe(403)
      expect((await problemOf(response)).code).toBe('host_not_allowed')
      expect(await http.stored()).toEqual(before)
    }
  })

  test.each([
    ['a fetch from another site', { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }],
    ['a form post from another site', { origin: 'http://evil.example', 'content-type': 'text/plain' }],
    ['a page without an origin of its own', { origin: 'null' }],
    ['an extension', { origin: 'chrome-extension://abc' }],
    ['a name that begins like ours', { origin: 'http://localhost.evil.example' }],
    ['a name that is in ours', { origin: 'http://evil.example/http://localhost' }],
    ['an image or a link, which have no origin', { 'sec-fetch-site': 'cross-site' }],
  ])('%s', async (_what, headers) => {
    for (const [method, path] of PATHS) {
      const before = await http.stored()

      const response = await http.call(method, path, method === 'POST' ? EVENT : undefined, { headers })

      expect(response.status).toBe(403)
      expect((await problemOf(response)).code).toBe('origin_not_allowed')
      expect(await http.stored()).toEqual(before)
    }
  })

  test('and a signature does not change that', async () => {
    const response = await http.signed('POST', '/v1/events', EVENT, { headers: { origin: 'https://evil.example' } })

    expect(response.status).toBe(403)
  })

  test('and a preflight gets no permission', async () => {
    const headers = {
      origin: 'http://localhost:5173',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type',
    }

    const response = await http.call('OPTIONS', '/v1/events', undefined, { headers })

    expect(response.status).toBe(405)
    expect([...response.headers.keys()].filter(name => name.startsWith('access-control'))).toEqual([])
  })
})

test.each([
  { host: 'localhost:3030' },
  { host: 'LOCALHOST' },
  { host: '127.0.0.1:65535' },
  { host: '[::1]:3030' },
  { origin: 'http://localhost:5173', 'sec-fetch-site': 'same-site' },
  { origin: 'http://127.0.0.1' },
  { origin: 'https://[::1]:8443' },
  { 'sec-fetch-site': 'none' },
])('a request with %j passes, without CORS headers', async headers => {
  const response = await http.call('POST', '/v1/events', EVENT, { headers: headers as Record<string, string> })

  expect(response.status).toBe(202)
  expect([...response.headers.keys()].filter(name => name.startsWith('access-control'))).toEqual([])
})

describe('an engine that is started for others', () => {
  const open = useHttp('start')

  test('takes signed requests under any name', async () => {
    const headers = { host: 'stepwell.internal', origin: 'https://shop.example' }

    const response = await open.signed('POST', '/v1/events', EVENT, { headers })

    expect(response.status).toBe(202)
  })
})
