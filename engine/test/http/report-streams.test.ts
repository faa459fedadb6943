/*
 * Report streams on a real port: good frames in any pieces, and everything that must not become one.
 */
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import {
  encodeFrame,
  type Frame,
  FrameReader,
  HEADERS,
  LIMITS,
  newMessageId,
  PROTOCOL_VERSION,
  payloadOf,
  STREAM_PROTOCOL,
  type StepOp,
  signHeaders,
  verify,
} from '@stepwell/protocol'
import { ackBatchSchema } from '@stepwell/protocol/schemas'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Listening, listen } from '../../src/cli/listen.ts'
import { Gate } from '../../src/http/gate.ts'
import { createReportStreams } from '../../src/http/report-streams.ts'
import { problemView } from '../../src/http/views.ts'
import { createLog } from '../../src/log.ts'
import { waitUntil } from '../support/wait-until.ts'
import { aKey, useHttp } from './harness.ts'
import { type HeldTurn, startTurnApp, type TurnApp } from './turn-app.ts'

const http = useHttp('start')
let app: TurnApp
let server: Listening
const sockets: Socket[] = []

beforeAll(async () => {
  app = await startTurnApp({ key: http.key, functions: { work: 'work.asked' } })
  await http.serve({ work: 'work.asked' }, app.url)
  await http.engine.start()
  server = await listen(['127.0.0.1'], 0)
  server.serve(http.edge)
})

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy()
})

afterAll(async () => {
  await server.close()
  await app.close()
})

function open(port = server.port): Socket {
  // Half-open: as a client that does not hang up by itself.
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
  sockets.push(socket)
  socket.on('error', () => {})
  return socket
}

function upgradeText(
  given: { method?: string; target?: string; headers?: Record<string, string>; key?: string; id?: string } = {},
): string {
  const { method = 'GET', target = '/v1/reports', key = http.key, id = newMessageId() } = given
  const headers = {
    host: 'localhost',
    connection: 'upgrade',
    upgrade: STREAM_PROTOCOL,
    [HEADERS.version]: PROTOCOL_VERSION,
    [HEADERS.workspace]: http.workspace,
    ...signHeaders({ id, nowMs: Date.now(), payload: payloadOf(method, target, null), secrets: [key] }),
    ...given.headers,
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n`
}

/** Everything that a connection brings until it is ended. */
async function readToEnd(socket: Socket): Promise<string> {
  const chunks: Buffer[] = []
  socket.on('data', chunk => chunks.push(chunk))
  if (!socket.readableEnded && !socket.destroyed) await Promise.race([once(socket, 'end'), once(socket, 'close')])
  return Buffer.concat(chunks).toString()
}

interface Stream {
  socket: Socket
  /** The next answer, verified. */
  answer(): Promise<{ id: string; json: unknown }>
}

/** An open stream. `bytes` are sent together with the request. */
async function aStream(port = server.port, bytes: Buffer = Buffer.alloc(0)): Promise<Stream> {
  const socket = open(port)
  socket.write(Buffer.concat([Buffer.from(upgradeText()), bytes]))
  const [chunk] = (await once(socket, 'data')) as [Buffer]
  const end = chunk.indexOf('\r\n\r\n') + 4
  expect(chunk.toString('latin1', 0, end)).toMatch(
    /^HTTP\/1\.1 101 .*\r\n(.+\r\n)*upgrade: stepwell-reports\r\n(.+\r\n)*\r\n$/,
  )
  const reader = new FrameReader()
  const frames: Frame[] = reader.read(chunk.subarray(end))
  socket.on('data', chunk => frames.push(...reader.read(chunk)))
  return {
    socket,
    async answer() {
      await waitUntil('there is an answer', () => frames.length > 0)
      const frame = frames.shift() ?? expect.fail()
      const verified = verify({ headers: frame.headers, payload: frame.body, secrets: [http.key], nowMs: Date.now() })
      if (!verified.ok) throw new Error(verified.message)
      return { id: verified.id, json: JSON.parse(frame.body.toString()) }
    },
  }
}

function aFrame(body: unknown, given: { key?: string; id?: string } = {}): Buffer {
  const payload = typeof body === 'string' ? body : JSON.stringify(body)
  const { key = http.key, id = newMessageId() } = given
  return encodeFrame(signHeaders({ id, nowMs: Date.now(), payload, secrets: [key] }), payload)
}

const A_REPORT = {
  ...{ kind: 'report', run: 'run_01m7wfht8ge82r73aq1n8pj7ng', generation: 1, turn: 1, epoch: 'e', n: 1 },
  ...{ state: 'running', ops: [] },
}
const step = (key: string): StepOp => ({ op: 'step', key, saw: 1, attempt: 1, output: { key: `${key}ü` } })
const aBatch = (reports: unknown[], workspace = http.workspace) => ({ kind: 'reports', workspace, reports })

async function startTurn(): Promise<HeldTurn> {
  await http.signed('POST', '/v1/events', { name: 'work.asked' })
  return app.nextTurn()
}

/** Ends a turn well, and waits until that is written. */
async function finish(held: HeldTurn): Promise<void> {
  held.respond('done', [{ op: 'finish' }])
  await waitUntil('no run is live', async () => (await http.stored()).runs === 0)
}

async function isEnded({ socket }: Stream): Promise<void> {
  await readToEnd(socket)
}

describe('a frame', () => {
  test('is acknowledged after the commit, under its id', async () => {
    const held = await startTurn()
    const stream = await aStream()
    const before = await http.stored()

    stream.socket.write(aFrame(aBatch([held.report('running', [step('one')])]), { id: 'msg_good' }))
    const { id, json } = await stream.answer()

    expect(id).toBe('re_msg_good')
    expect(ackBatchSchema.parse(json).acks).toMatchObject([
      { status: 200, n: 1, entries: [{ type: 'step_completed', key: 'one', seq: 2 }] },
    ])
    expect((await http.stored()).journal).toBe((before.journal ?? 0) + 1)
    await finish(held)
  })

  test('comes in many packets, even of a byte', async () => {
    const held = await startTurn()
    const stream = await aStream()
    stream.socket.setNoDelay(true)
    const frame = aFrame(aBatch([held.report('running', [step('one')])]))

    for (let at = 0; at < frame.length; at += 7) {
      await new Promise(resolve => stream.socket.write(frame.subarray(at, at + 7), resolve))
    }

    expect(await stream.answer()).toMatchObject({ json: { acks: [{ status: 200 }] } })
    await finish(held)
  })

  test('may come together with the request for the stream', async () => {
    const stream = await aStream(server.port, aFrame('', { id: 'msg_early' }))

    expect(await stream.answer()).toMatchObject({ id: 're_msg_early', json: { code: 'body_invalid' } })
  })

  test('shares a packet with others, and each is answered', async () => {
    const held = await startTurn()
    const stream = await aStream()
    const stranger = { ...held.report('running', [step('x')]), epoch: '1' }
    const ids = Array.from({ length: 40 }, () => newMessageId())

    stream.socket.write(Buffer.concat(ids.map(id => aFrame(aBatch([stranger]), { id }))))
    const answers: { id: string; json: unknown }[] = []
    for (const _ of ids) answers.push(await stream.answer())
    stream.socket.write(aFrame(aBatch([stranger]), { id: 'msg_next' }))
    const next = await stream.answer()

    expect(answers.map(({ id }) => id).sort()).toEqual(ids.map(id => `re_${id}`).sort())
    for (const { json } of answers) expect(json).toMatchObject({ acks: [{ status: 409 }] })
    expect(next.id).toBe('re_msg_next')
    await finish(held)
  })

  test.each<[string, string | object, number, string]>([
    ['is no JSON', '{"kind":', 400, 'body_invalid'],
    ['has no body', '', 400, 'body_invalid'],
    ['is no batch', { kind: 'reports', workspace: 'shop/prod', reports: [{ n: 1 }] }, 400, 'body_invalid'],
    ['nests too deep', '['.repeat(5_000), 400, 'body_invalid'],
  ])('that %s is answered with a problem, and the stream goes on', async (_what, body, status, code) => {
    const stream = await aStream()
    const before = await http.stored()

    stream.socket.write(aFrame(body))
    const first = await stream.answer()
    stream.socket.write(aFrame(body))
    const second = await stream.answer()

    expect(problemView.parse(first.json)).toMatchObject({ status, code })
    expect(second.json).toMatchObject({ code })
    expect(await http.stored()).toEqual(before)
  })

  test('about another workspace than that of the stream is answered with 401, and writes nothing', async () => {
    const held = await startTurn()
    const stream = await aStream()
    const before = await http.stored()

    stream.socket.write(aFrame(aBatch([held.report('running', [step('one')])], 'other/prod')))

    expect((await stream.answer()).json).toMatchObject({ status: 401, code: 'signature_invalid' })
    expect(await http.stored()).toEqual(before)
    await finish(held)
  })
})

describe('a stream is ended, and nothing is written,', () => {
  test('by a frame under another key', async () => {
    const held = await startTurn()
    const stream = await aStream()
    const before = await http.stored()

    stream.socket.write(aFrame(aBatch([held.report('running', [step('one')])]), { key: aKey() }))

    await isEnded(stream)
    expect(await http.stored()).toEqual(before)
    await finish(held)
  })

  test('by a frame that was accepted before, on another stream', async () => {
    const [stream, other] = [await aStream(), await aStream()]
    const frame = aFrame(aBatch([{ n: 1 }]))
    stream.socket.write(frame)
    await stream.answer()

    other.socket.write(frame)

    await isEnded(other)
  })

  test('by a frame with the id of a request', async () => {
    const stream = await aStream()
    await http.signed('POST', '/v1/reports', aBatch([{ n: 1 }]), { id: 'msg_posted' })

    stream.socket.write(aFrame(aBatch([{ n: 1 }]), { id: 'msg_posted' }))

    await isEnded(stream)
  })

  test('by a frame over the limit, as soon as its length is there', async () => {
    const stream = await aStream()
    const length = Buffer.alloc(4)
    length.writeUInt32BE(LIMITS.bodyBytes + 5_000)

    stream.socket.write(length)

    await isEnded(stream)
  })

  test('by bytes that are no frame', async () => {
    const stream = await aStream()

    stream.socket.write('GET /v1/runs HTTP/1.1\r\nhost: localhost\r\n\r\n')

    await isEnded(stream)
  })

  test('by the app that ends its side', async () => {
    const stream = await aStream()

    stream.socket.end()

    await isEnded(stream)
  })
})

describe('an upgrade is refused', () => {
  test.each<[string, number, string, () => string]>([
    ['without a signature', 401, 'signature_missing', () => upgradeText({ headers: { [HEADERS.signature]: '' } })],
    ['under another key', 401, 'signature_invalid', () => upgradeText({ key: aKey() })],
    [
      'for a workspace that is not here',
      401,
      'workspace_unknown',
      () => upgradeText({ headers: { [HEADERS.workspace]: 'no/dev' } }),
    ],
    ['in another version', 415, 'version_unknown', () => upgradeText({ headers: { [HEADERS.version]: '99' } })],
    ['at another path', 404, 'not_found', () => upgradeText({ target: '/v1/events' })],
    ['with a query', 404, 'not_found', () => upgradeText({ target: '/v1/reports?a=1' })],
  ])('%s: %i %s', async (_what, status, code, text) => {
    const socket = open()

    socket.write(text())
    const answer = await readToEnd(socket)

    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    const [, body = ''] = answer.split('\r\n\r\n')
    expect(problemView.parse(JSON.parse(body))).toMatchObject({ status, code })
  })

  test('the second time under one id', async () => {
    const text = upgradeText({ id: 'msg_upgrade' })
    const first = open()
    first.write(text)
    await once(first, 'data')
    const second = open()

    second.write(text)

    expect(await readToEnd(second)).toContain('request_replayed')
  })

  test('while the engine starts', async () => {
    const early = await listen(['127.0.0.1'], 0)
    const socket = open(early.port)

    socket.write(upgradeText())
    const answer = await readToEnd(socket)
    await early.close()

    expect(answer).not.toContain('101')
  })
})

test('an app that reads no answers is not read from without end', async () => {
  let taken = 0
  const streams = createReportStreams({
    engine: {
      takeReports: async () => {
        taken += 1
        return { kind: 'acks', acks: [] }
      },
    },
    gate: new Gate(http.engine.catalogs, null),
    log: createLog('silent'),
    newRequestId: () => 'req_1',
  })
  const pending: (() => void)[] = []
  const socket = new Duplex({ read() {}, write: (_chunk, _encoding, done) => void pending.push(done) })
  const [line = '', ...lines] = upgradeText().trim().split('\r\n')
  const headers = Object.fromEntries(lines.map(text => text.split(': ')))
  const [method, url] = line.split(' ')
  // As much of a request as is looked at.
  streams.accept({ method, url, headers } as unknown as IncomingMessage, socket, Buffer.alloc(0))
  await waitUntil('the stream is open', () => pending.length > 0)
  pending.shift()?.()

  for (let n = 0; n < 200; n += 1) {
    socket.push(aFrame(aBatch([{ ...A_REPORT, n: n + 1 }])))
    await new Promise(resolve => setImmediate(resolve))
  }
  const takenUnread = taken
  const drain = setInterval(() => pending.shift()?.(), 0)
  await waitUntil('all are taken', () => taken === 200)

  clearInterval(drain)
  socket.destroy()
  expect(takenUnread).toBeLessThan(50)
})

describe('a server that closes', () => {
  async function aServer(): Promise<Listening> {
    const other = await listen(['127.0.0.1'], 0)
    other.serve(http.edge)
    return other
  }

  test('ends its streams', async () => {
    const other = await aServer()
    const stream = await aStream(other.port)

    await other.close()

    await isEnded(stream)
  })

  test('does not wait for one whose upgrade was refused and who does not hang up', async () => {
    const other = await aServer()
    const socket = open(other.port)
    socket.write(upgradeText({ key: aKey() }))
    expect(await readToEnd(socket)).toContain('401')

    await other.close()
  })

  test('takes no upgrade any more', async () => {
    const other = await aServer()
    // A request whose body is still coming keeps its connection open for a moment.
    const socket = open(other.port)
    socket.write('POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{')
    await fetch(`http://127.0.0.1:${other.port}/livez`)

    const closed = other.close()
    socket.write(`}${upgradeText()}`)

    await closed
  })
})

test.each(['h2c', 'websocket', 'TLS/1.2'])('a request that offers %s is answered as if it had not', async protocol => {
  const body = '{"name":"a"}'
  const headers = {
    host: 'localhost',
    connection: 'Upgrade, HTTP2-Settings',
    upgrade: protocol,
    'content-length': String(body.length),
    [HEADERS.version]: PROTOCOL_VERSION,
    [HEADERS.workspace]: http.workspace,
    ...signHeaders({ id: newMessageId(), nowMs: Date.now(), payload: body, secrets: [http.key] }),
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const socket = open()

  socket.write(`POST /v1/events HTTP/1.1\r\n${lines.join('')}\r\n${body}`)
  const [answer] = (await once(socket, 'data')) as [Buffer]

  expect(answer.toString()).toMatch(/^HTTP\/1\.1 202 /)
})
