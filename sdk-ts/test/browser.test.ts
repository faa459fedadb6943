/** `@stepwell/sdk/browser`: following a run, against a real server that answers what a test has laid ready. */
import { readFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type RunMessage, SubscribeError, type Subscription, subscribe } from '../src/browser.ts'
import { createEventReader } from '../src/event-stream.ts'

/** One answer: what is written, and whether the connection is cut instead of ended. */
interface Answer {
  status?: number
  text: string
  isCut?: boolean
  /** Stays open after the text. */
  stays?: boolean
}

const server = {
  url: '',
  answers: [] as Answer[],
  received: [] as http.IncomingMessage[],
  closed: 0,
  http: http.createServer(),
}

beforeEach(async () => {
  server.answers = []
  server.received = []
  server.closed = 0
  server.http = http.createServer((request, response) => {
    server.received.push(request)
    response.on('close', () => {
      server.closed += 1
    })
    const { status = 200, text, isCut, stays } = server.answers.shift() ?? { text: END }
    response.writeHead(status, { 'content-type': status === 200 ? 'text/event-stream' : 'application/problem+json' })
    response.write(text, () => {
      if (isCut) response.destroy()
      else if (!stays) response.end()
    })
  })
  await new Promise<void>(resolve => server.http.listen(0, '127.0.0.1', resolve))
  server.url = `http://127.0.0.1:${(server.http.address() as AddressInfo).port}/`
})
afterEach(() => {
  server.http.closeAllConnections()
  server.http.close()
})

const END = 'event: stepwell.end\ndata: {"state":"completed"}\n\n'
const aMessage = (id: number, data: unknown, channel = 'log') =>
  `id: ${id}\nevent: ${channel}\ndata: ${JSON.stringify(data)}\n\n`
const aProblem = (status: number, code: string): Answer => ({
  status,
  text: JSON.stringify({ code, detail: `it is ${code}` }),
})

const open = (given: Partial<Parameters<typeof subscribe>[0]> = {}) =>
  subscribe({ url: server.url, token: 'a-token', run: 'run_1', ...given })

async function all(subscription: Subscription): Promise<RunMessage[]> {
  const messages: RunMessage[] = []
  for await (const message of subscription) messages.push(message)
  return messages
}

const asked = () =>
  server.received.map(({ url, headers }) => [url, headers.authorization, headers.origin === undefined] as const)

describe('a subscription', () => {
  test('gives the messages and ends with the run', async () => {
    server.answers = [
      { text: `retry: 1000\n\n${aMessage(1, { a: 'ü' })}: keep-alive\n\n${aMessage(2, null, 'other')}${END}` },
    ]
    const subscription = open({ channels: ['log', 'other'] })

    const messages = await all(subscription)

    expect(messages).toEqual([
      { id: 1, channel: 'log', data: { a: 'ü' } },
      { id: 2, channel: 'other', data: null },
    ])
    expect([subscription.cursor, subscription.state]).toEqual([2, 'completed'])
    expect(asked()).toEqual([['/v1/runs/run_1/stream?after=0&channel=log&channel=other', 'Bearer a-token', true]])
  })

  test('goes on from its cursor when the connection ends or is cut, and gives nothing twice', async () => {
    server.answers = [
      { text: aMessage(1, 1) },
      { text: `${aMessage(2, 2)}id: 3\nevent: log\nda`, isCut: true },
      { text: `${aMessage(2, 2)}${aMessage(3, 3)}${END}` },
    ]

    const messages = await all(open())

    expect(messages.map(({ data }) => data)).toEqual([1, 2, 3])
    expect(asked().map(([url]) => url?.split('?')[1])).toEqual(['after=0', 'after=1', 'after=2'])
  })

  test('begins where the page says', async () => {
    await all(open({ after: 7 }))

    expect(asked()[0]?.[0]).toContain('after=7')
  })

  test('asks again while the engine is busy or stops', async () => {
    server.answers = [aProblem(503, 'draining'), aProblem(429, 'unavailable'), { text: `${aMessage(1, 1)}${END}` }]

    expect(await all(open())).toHaveLength(1)
    expect(server.received).toHaveLength(3)
  })

  test.each([
    [403, 'stream_not_allowed'],
    [404, 'run_not_found'],
    [401, 'stream_token_expired'],
  ])('throws what the engine refuses for good: %i %s', async (status, code) => {
    server.answers = [aProblem(status, code)]

    const refused = await all(open()).catch(error => error)

    expect(refused).toBeInstanceOf(SubscribeError)
    expect(refused).toMatchObject({ status, code, message: `it is ${code}` })
  })

  test('says so when something else than an engine answers', async () => {
    server.answers = [{ status: 404, text: '<html>' }]

    await expect(all(open())).rejects.toMatchObject({ status: 404, code: null })
  })

  test('gets a new token when its own has expired', async () => {
    let tokens = 0
    server.answers = [
      { text: aMessage(1, 1) },
      aProblem(401, 'stream_token_expired'),
      { text: `${aMessage(2, 2)}${END}` },
    ]

    const messages = await all(open({ token: async () => `token-${++tokens}` }))

    expect(messages.map(({ data }) => data)).toEqual([1, 2])
    expect(asked().map(([, token]) => token)).toEqual(['Bearer token-1', 'Bearer token-1', 'Bearer token-2'])
  })

  test('does not ask for tokens without end', async () => {
    let tokens = 0
    server.answers = [
      { text: aMessage(1, 1) },
      ...Array.from({ length: 9 }, () => aProblem(401, 'stream_token_invalid')),
    ]

    const token = () => `token-${++tokens}`
    await expect(all(open({ token }))).rejects.toMatchObject({ code: 'stream_token_invalid' })

    expect(tokens).toBe(2)
  })
})

describe('a subscription that nobody wants any more', () => {
  const stays: Answer = { text: aMessage(1, 1), stays: true }
  const connectionIsClosed = async () => {
    while (server.closed === 0) await new Promise(resolve => setImmediate(resolve))
  }

  test('closes its connection when its loop is left', async () => {
    server.answers = [stays]

    for await (const message of open()) {
      expect(message.id).toBe(1)
      break
    }

    await connectionIsClosed()
    expect(server.received).toHaveLength(1)
  })

  test.each(['close', 'signal'])('ends its loop when it is closed: by %s', async how => {
    server.answers = [stays]
    const stop = new AbortController()
    const subscription = open({ signal: stop.signal })

    for await (const _ of subscription) setImmediate(() => (how === 'close' ? subscription.close() : stop.abort()))

    await connectionIsClosed()
    expect(subscription.state).toBeNull()
  })

  test('asks for nothing when it was closed before', async () => {
    expect(await all(open({ signal: AbortSignal.abort() }))).toEqual([])
    expect(server.received).toHaveLength(0)
  })
})

describe('the reader of event streams', () => {
  test('gives the same events, wherever the pieces are cut and however lines end', () => {
    const text =
      ': hello\n\nid: 1\nevent: log\ndata: a\ndata:b\n\ndata: c\n\nretry: 5\n\nid:2\ndata\n\nevent: lost\n\ndata: unfinished'
    const events = [
      { id: '1', event: 'log', data: 'a\nb' },
      { id: '1', event: 'message', data: 'c' },
      { id: '2', event: 'message', data: '' },
    ]
    fc.assert(
      fc.property(fc.constantFrom('\n', '\r\n', '\r'), fc.array(fc.integer({ min: 1, max: 9 })), (lineEnd, sizes) => {
        let rest = text.replaceAll('\n', lineEnd)
        const read = createEventReader()
        const given = sizes.flatMap(size => {
          const piece = rest.slice(0, size)
          rest = rest.slice(size)
          return read(piece)
        })
        expect([...given, ...read(rest)]).toEqual(events)
      }),
    )
  })
})

test('a page loads nothing of node and nothing of the rest of the SDK', () => {
  const seen = new Set<string>()
  const visit = (file: string) => {
    if (seen.has(file)) return
    seen.add(file)
    const text = readFileSync(new URL(`../src/${file}`, import.meta.url), 'utf8')
    for (const [, what, from = ''] of text.matchAll(/^(import|export)\b[^'"\n]*from '([^']+)'/gm)) {
      const isType = text.includes(`${what} type {`) && new RegExp(`import type [^\n]*'${from}'`).test(text)
      if (!isType) visit(from.replace('./', ''))
    }
    expect(text).not.toMatch(/\bnode:|\bBuffer\b|\bprocess\b/)
  }

  visit('browser.ts')

  expect([...seen].sort()).toEqual(['browser.ts', 'event-stream.ts'])
})
