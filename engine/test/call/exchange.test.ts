import { createServer as createTcpServer, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { createCallApp } from '../../src/call/call-app.ts'
import { type ExchangeRequest, Exchanger } from '../../src/call/exchange.ts'
import { findFreePort } from '../support/processes.ts'
import { waitUntil } from '../support/wait-until.ts'

const closings: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closings.splice(0).reverse()) await close()
})

/** A server that treats the bytes of a connection as the test wants. */
async function aServer(
  onRequest: (socket: Socket, request: string) => void,
): Promise<{ url: URL; requests: string[] }> {
  const requests: string[] = []
  const sockets = new Set<Socket>()
  const server = createTcpServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', chunk => {
      requests.push(String(chunk))
      onRequest(socket, String(chunk))
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  closings.push(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise(resolve => server.close(resolve))
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The server has no port.')
  return { url: new URL(`http://127.0.0.1:${address.port}/api?a=1`), requests }
}

function anExchanger(connections = 10): Exchanger {
  const exchanger = new Exchanger(connections)
  closings.push(() => exchanger.close())
  return exchanger
}

const aRequest = (url: URL, given: Partial<ExchangeRequest> = {}): ExchangeRequest => ({
  url,
  headers: { 'content-type': 'application/json' },
  body: '{"a":"ü"}',
  bodyBytesMax: 1_000,
  reasonToAbort: () => null,
  ...given,
})

const answer = (body: string) =>
  `HTTP/1.1 200 OK\r\ncontent-length: ${Buffer.byteLength(body)}\r\nx-a: b\r\n\r\n${body}`

test('an exchange gives status, headers and body, and says when the answer began', async () => {
  const { url, requests } = await aServer(socket => socket.write(answer('"ü"')))

  const outcome = await anExchanger().send(aRequest(url))

  expect(outcome).toMatchObject({ kind: 'answer', status: 200, headers: { 'x-a': 'b' } })
  expect(outcome.kind === 'answer' && outcome.body.toString()).toBe('"ü"')
  expect(outcome.firstByteAtMs).toBeLessThanOrEqual(performance.now())
  expect(requests[0]).toMatch(/^POST \/api\?a=1 HTTP\/1\.1\r\n/)
})

test('what comes before the answer is not the answer', async () => {
  const { url } = await aServer(socket => socket.write(`HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n${answer('late')}`))

  const outcome = await anExchanger().send(aRequest(url))

  expect(outcome.kind === 'answer' && outcome.body.toString()).toBe('late')
})

test.each([
  ['of a length that it says', () => answer('x'.repeat(1_001))],
  [
    'of a length that it does not say',
    () => `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${`200\r\n${'x'.repeat(512)}\r\n`.repeat(2)}`,
  ],
])('an answer over the limit, %s, is given up before its end, and the next exchange is well', async (_what, text) => {
  let count = 0
  const { url } = await aServer(socket => {
    count += 1
    socket.write(count === 1 ? text() : answer('ok'))
  })
  const exchanger = anExchanger(1)

  const tooLarge = await exchanger.send(aRequest(url))
  const next = await exchanger.send(aRequest(url))

  expect(tooLarge.kind).toBe('too_large')
  expect(next.kind).toBe('answer')
})

test('an answer of exactly the limit is taken', async () => {
  const { url } = await aServer(socket => socket.write(answer('x'.repeat(1_000))))

  expect((await anExchanger().send(aRequest(url))).kind).toBe('answer')
})

test('an exchange is given up when there is a reason to, and its connection with it', async () => {
  let isClosed = false
  const { url, requests } = await aServer(socket => {
    socket.once('close', () => {
      isClosed = true
    })
  })

  const outcome = await anExchanger().send(
    aRequest(url, { reasonToAbort: () => (requests.length > 0 ? 'timeout' : null) }),
  )

  expect(outcome).toMatchObject({ kind: 'failed', aborted: 'timeout', firstByteAtMs: null })
  await waitUntil('the connection is closed', () => isClosed)
})

test('an exchange that waits for a connection is given up too, and never sent', async () => {
  const held: Socket[] = []
  const { url, requests } = await aServer(socket => void held.push(socket))
  const exchanger = anExchanger(1)
  const first = exchanger.send(aRequest(url, { body: '"first"' }))
  await waitUntil('the first is under way', () => held.length > 0)

  const waiting = await exchanger.send(aRequest(url, { body: '"second"', reasonToAbort: () => 'over' }))
  held[0]?.write(answer('1'))
  const third = exchanger.send(aRequest(url, { body: '"third"' }))
  await waitUntil('the third is under way', () => requests.some(request => request.includes('third')))
  held.at(-1)?.write(answer('3'))

  expect(waiting).toMatchObject({ kind: 'failed', aborted: 'over' })
  expect((await first).kind).toBe('answer')
  expect((await third).kind).toBe('answer')
  expect(requests.join()).not.toContain('second')
})

test.each<[string, (socket: Socket) => unknown, boolean]>([
  ['before the answer', socket => socket.destroy(), false],
  ['in the middle of it', socket => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc'), true],
  ['with something that is no HTTP', socket => socket.end('SSH-2.0-OpenSSH\r\n'), false],
])('a connection that ends %s is a failure', async (_what, end, hadHeaders) => {
  const { url } = await aServer(end)

  const outcome = await anExchanger().send(aRequest(url))

  expect(outcome).toMatchObject({ kind: 'failed', aborted: null })
  expect(outcome.firstByteAtMs !== null).toBe(hadHeaders)
})

test('nobody there is a failure', async () => {
  const port = await findFreePort()

  const outcome = await anExchanger().send(aRequest(new URL(`http://127.0.0.1:${port}/`)))

  expect(outcome).toMatchObject({ kind: 'failed', error: { code: 'ECONNREFUSED' }, aborted: null })
})

test('closing ends what is under way', async () => {
  const { url, requests } = await aServer(() => {})
  const exchanger = anExchanger()
  const sending = exchanger.send(aRequest(url))
  await waitUntil('it is under way', () => requests.length > 0)

  await exchanger.close()

  expect((await sending).kind).toBe('failed')
})

test.each(['', 'not a url', 'http://', 'http://[::1'])('an app at %j cannot be reached, and says so', async url => {
  const { callApp, close } = createCallApp({ turnsAtOnce: 1 })
  closings.push(close)

  const outcome = await callApp({
    catalog: { name: 'a/dev', keys: [`whsec_${Buffer.alloc(32, 1).toString('base64')}`], url },
    kind: 'describe',
    body: '{}',
    lastSignAtMs: () => performance.now(),
    timeoutMs: 1_000,
    isOver: () => false,
  })

  expect(outcome).toMatchObject({ kind: 'no_answer', code: 'app_unreachable', firstByteAtMs: null })
})
