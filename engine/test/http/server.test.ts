/*
 * What only a real port shows: bodies that come slowly or not at all, lines that are no HTTP, connections that stay open.
 */
import { once } from 'node:events'
import { Agent, type IncomingMessage, request as nodeRequest } from 'node:http'
import { connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import { HEADERS, LIMITS, newMessageId, PROTOCOL_VERSION, payloadOf, signHeaders } from '@stepwell/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Listening, listen } from '../../src/cli/listen.ts'
import { useHttp } from './harness.ts'

const http = useHttp('dev')
let server: Listening

beforeAll(async () => {
  server = await listen(['127.0.0.1', '::1'], 0)
  server.serve(http.edge)
})

afterAll(() => server.close())

const url = (path: string, host = '127.0.0.1') => `http://${host}:${server.port}${path}`
const isAlive = async () => (await fetch(url('/livez'))).ok

/** Writes bytes to the port and reads the first thing that comes back. */
async function writeRaw(text: string): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port: server.port })
  socket.on('error', () => {})
  socket.write(text, 'latin1')
  const chunks: Buffer[] = []
  socket.on('data', chunk => {
    chunks.push(chunk)
    socket.end()
  })
  await once(socket, 'close')
  return Buffer.concat(chunks).toString('latin1')
}

/** A container may have no IPv6. */
const hasSix = Object.values(networkInterfaces()).some(list => list?.some(({ address }) => address === '::1'))

test.each(['127.0.0.1', 'localhost', ...(hasSix ? ['[::1]'] : [])])('listens at %s', async host => {
  const response = await fetch(url('/livez', host))

  expect(await response.json()).toEqual({ status: 'live', name: 'stepwell', mode: 'dev' })
})

test('an unsigned event over the loopback is accepted', async () => {
  const response = await fetch(url('/v1/events'), { method: 'POST', body: '{"name":"a"}' })

  expect(response.status).toBe(202)
})

test('signed requests are verified by the target as it was sent', async () => {
  const target = '/v1/../v1/runs?limit=%31&state=queued'
  const headers = {
    [HEADERS.version]: PROTOCOL_VERSION,
    [HEADERS.workspace]: http.workspace,
    ...signHeaders({
      id: newMessageId(),
      nowMs: Date.now(),
      payload: payloadOf('GET', target, null),
      secrets: [http.key],
    }),
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)

  const answer = await writeRaw(`GET ${target} HTTP/1.1\r\nHost: localhost\r\n${lines.join('')}\r\n`)

  expect(answer).toMatch(/^HTTP\/1\.1 200 /)
})

describe('a body that is too large', () => {
  test('is refused by its length before any of it comes', async () => {
    const answer = await writeRaw(
      `POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${LIMITS.bodyBytes + 1}\r\n\r\n`,
    )

    expect(answer).toMatch(/^HTTP\/1\.1 413 /)
    expect(answer).toContain('body_too_large')
  })

  test('is refused while it comes when it does not say its length', async () => {
    const before = await http.stored()
    let isAnswered = false
    let sentBytes = 0
    const chunk = Buffer.alloc(64 * 1024, 0x20)

    const request = nodeRequest(url('/v1/events'), { method: 'POST', agent: new Agent() })
    request.on('error', () => {})
    const send = () => {
      // It would go on for ever.
      while (!isAnswered && sentBytes < 100 * LIMITS.bodyBytes) {
        sentBytes += chunk.length
        if (!request.write(chunk)) return void request.once('drain', send)
      }
    }
    send()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    isAnswered = true

    expect(response.statusCode).toBe(413)
    expect(sentBytes).toBeLessThan(20 * LIMITS.bodyBytes)
    request.destroy()
    expect(await http.stored()).toEqual(before)
    expect(await isAlive()).toBe(true)
  })
})

test('a body that ends before its length is not stored', async () => {
  const before = await http.stored()
  http.logged.length = 0
  const socket = connect({ host: '127.0.0.1', port: server.port })
  await once(socket, 'connect')
  await new Promise(resolve => {
    socket.write('POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"name":"a"}', resolve)
  })

  socket.destroy()

  await once(socket, 'close')
  expect(await isAlive()).toBe(true)
  expect(await http.stored()).toEqual(before)
  expect(http.logged).toEqual([])
})

test.each([
  ['a target that is no path', 'GET nonsense HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['a target with a backslash', 'GET /v1\\runs HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['an asterisk', 'OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['a host that is none', 'GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n'],
  ['no host', 'GET /livez HTTP/1.1\r\n\r\n'],
  ['no host, long ago', 'GET /livez HTTP/1.0\r\n\r\n'],
  ['two hosts', 'GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n'],
  ['an absolute target elsewhere', 'GET http://evil.example/livez HTTP/1.1\r\nHost: evil.example\r\n\r\n'],
  ['a negative length', 'POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n'],
  ['two lengths', 'POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n7'],
  [
    'a length and chunks',
    'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['headers without end', `GET /livez HTTP/1.1\r\nHost: localhost\r\n${'x: y\r\n'.repeat(10_000)}\r\n`],
  ['a request for TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
])('%s is refused, and the server goes on', async (_what, text) => {
  const answer = await writeRaw(text)

  expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /)
  expect(await isAlive()).toBe(true)
})

test('many requests go over one connection', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const ports = new Set<number | undefined>()
  for (let count = 0; count < 50; count += 1) {
    const request = nodeRequest(url('/livez'), { agent }).end()
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    ports.add(response.socket.localPort)
    await response.resume().toArray()
  }

  agent.destroy()

  expect(ports.size).toBe(1)
})

test('until the engine is ready the answer is 503', async () => {
  const early = await listen(['127.0.0.1'], 0)

  const response = await fetch(`http://127.0.0.1:${early.port}/v1/runs`)

  expect(response.status).toBe(503)
  expect(response.headers.get('retry-after')).toBe('1')
  expect(await response.json()).toMatchObject({ code: 'unavailable' })
  await early.close()
})

test('closing answers what is under way and leaves no connection open', async () => {
  const other = await listen(['127.0.0.1'], 0)
  other.serve(http.edge)
  const target = `http://127.0.0.1:${other.port}`
  const agent = new Agent({ keepAlive: true })
  const idle = nodeRequest(`${target}/livez`, { agent }).end()
  const [answered] = (await once(idle, 'response')) as [IncomingMessage]
  await answered.resume().toArray()
  const slow = nodeRequest(`${target}/v1/events`, { method: 'POST', headers: { 'content-length': '12' } })
  slow.write('{"name":')
  await once(slow, 'socket').then(([socket]) => (socket.connecting ? once(socket, 'connect') : null))
  await fetch(`${target}/livez`)

  const closed = other.close()
  slow.end('"a"}')
  const [response] = (await once(slow, 'response')) as [IncomingMessage]
  await closed

  expect(response.statusCode).toBe(202)
  await expect(fetch(`${target}/livez`)).rejects.toThrow()
  agent.destroy()
})

test('a second server on the same port fails', async () => {
  await expect(listen(['127.0.0.1'], server.port)).rejects.toMatchObject({ code: 'EADDRINUSE' })
})

test.runIf(hasSix)('a port that is taken on the second address only is taken', async () => {
  const onlySix = await listen(['::1'], 0)

  await expect(listen(['127.0.0.1', '::1'], onlySix.port)).rejects.toMatchObject({ code: 'EADDRINUSE' })

  await onlySix.close()
})
