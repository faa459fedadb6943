import http from 'node:http'
import net from 'node:net'
import fc from 'fast-check'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { AnswerReader } from '../src/http-answer.ts'
import { HttpClient } from '../src/http-client.ts'
import { aSignal } from './harness.ts'

const servers: net.Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

async function listen(server: net.Server): Promise<string> {
  servers.push(server)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as net.AddressInfo).port}/path?q=1`
}

/** How many connections the last server has accepted. */
let connections = 0

/** A server that answers the n-th connection with the n-th script, or closes it. */
async function listenRaw(...scripts: ((socket: net.Socket, requests: number) => void)[]): Promise<string> {
  let count = 0
  connections = 0
  return listen(
    net.createServer(socket => {
      const script = scripts[Math.min(count, scripts.length - 1)]
      count += 1
      connections = count
      let requests = 0
      socket.on('error', () => {})
      socket.on('data', () => {
        requests += 1
        script?.(socket, requests)
      })
    }),
  )
}

function get(client: HttpClient, url: string, timeoutMs = 5_000) {
  return client.send({ method: 'GET', url, headers: {}, body: null, timeoutMs })
}

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'

describe('the HTTP client', () => {
  test('sends what a server of node:http understands, on one connection', async () => {
    const seen: unknown[] = []
    const sockets = new Set<unknown>()
    const url = await listen(
      http.createServer(async (request, response) => {
        const chunks: Buffer[] = []
        for await (const chunk of request) chunks.push(chunk as Buffer)
        sockets.add(request.socket)
        seen.push([request.method, request.url, request.headers['x-a'], Buffer.concat(chunks).toString()])
        response.setHeader('x-b', 'b')
        response.end('ünï')
      }),
    )
    const client = new HttpClient()

    const post = { method: 'POST', url, headers: { 'x-a': 'a' }, body: 'Ž👍', timeoutMs: 5_000 } as const
    const answers = [await client.send(post), await client.send(post), await get(client, url)]

    expect(answers.map(({ status, headers, body }) => [status, headers['x-b'], body.toString()])).toEqual(
      answers.map(() => [200, 'b', 'ünï']),
    )
    expect(seen).toEqual([
      ['POST', '/path?q=1', 'a', 'Ž👍'],
      ['POST', '/path?q=1', 'a', 'Ž👍'],
      ['GET', '/path?q=1', undefined, ''],
    ])
    expect(sockets.size).toBe(1)
  })

  test('reads long answers in the chunked coding', async () => {
    const parts = Array.from({ length: 300 }, (_, n) => String(n).repeat(1_000))
    const url = await listen(
      http.createServer((_request, response) => {
        for (const part of parts) response.write(part)
        response.end()
      }),
    )
    const client = new HttpClient()

    const answers = [await get(client, url), await get(client, url)]

    for (const answer of answers) expect(answer.body.toString()).toBe(parts.join(''))
  })

  test('opens another connection when the kept one has been closed meanwhile', async () => {
    const url = await listenRaw(
      (socket, requests) => (requests === 1 ? socket.write(OK) : socket.destroy()),
      socket => socket.write(OK),
    )
    const client = new HttpClient()

    const answers = [await get(client, url), await get(client, url)]

    expect(answers.map(({ body }) => body.toString())).toEqual(['ok', 'ok'])
  })

  test('does not send again what may have been read', async () => {
    const url = await listenRaw(socket => {
      socket.end('HTTP/1.1 200 OK\r\ncontent-le')
    })

    await expect(get(new HttpClient(), url)).rejects.toMatchObject({ code: 'ECONNRESET' })
    expect(connections).toBe(1)
  })

  test('closes a connection that the server wants closed, and one with bytes left over', async () => {
    const url = await listenRaw(
      socket => {
        socket.write('HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok')
      },
      socket => {
        socket.write(`${OK}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil`)
      },
      socket => {
        socket.write(OK)
      },
    )
    const client = new HttpClient()

    const answers = [await get(client, url), await get(client, url), await get(client, url)]

    expect(answers.map(({ body }) => body.toString())).toEqual(['ok', 'ok', 'ok'])
    expect(connections).toBe(3)
  })

  test('keeps a connection no longer than the server says', async () => {
    const url = await listenRaw(socket => {
      socket.write(OK.replace('\r\n\r\n', '\r\nkeep-alive: timeout=1\r\n\r\n'))
    })
    const client = new HttpClient()

    await get(client, url)
    await get(client, url)

    expect(connections).toBe(2)
  })

  test('gives up when no answer comes in time', async () => {
    const url = await listenRaw(() => {})

    await expect(get(new HttpClient(), url, 30)).rejects.toThrow('no answer within 30 ms')
  })

  test('gives up in time also when the first connection was lost late', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    const late = aSignal()
    const url = await listenRaw(
      (socket, requests) => (requests === 1 ? socket.write(OK) : void late.promise.then(() => socket.destroy())),
      () => {},
    )
    const client = new HttpClient()
    await get(client, url)
    const refused = expect(get(client, url, 1_000)).rejects.toThrow('no answer within 100 ms')

    await vi.advanceTimersByTimeAsync(900)
    late.resolve()
    while (connections < 2) await new Promise(resolve => setImmediate(resolve))
    await vi.advanceTimersByTimeAsync(1_000)

    await refused
    vi.useRealTimers()
  })

  test('passes on that nobody listens', async () => {
    await expect(get(new HttpClient(), 'http://127.0.0.1:1/')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await expect(get(new HttpClient(), 'http://[::1]:1/')).rejects.toHaveProperty('code')
  })

  test.each(['ftp://a/', 'nonsense'])('refuses the address %s', async url => {
    await expect(get(new HttpClient(), url)).rejects.toThrow(TypeError)
  })

  test('lets no header end its line', async () => {
    const request = { method: 'GET', url: 'http://127.0.0.1:1/', body: null, timeoutMs: 1_000 } as const

    await expect(new HttpClient().send({ ...request, headers: { a: 'b\r\nc: d' } })).rejects.toThrow(TypeError)
  })
})

describe('an answer', () => {
  const answers: [string, string, string | null][] = [
    ['with a length', OK, 'ok'],
    ['without a body', 'HTTP/1.1 204 No Content\r\n\r\n', ''],
    ['after hints', `HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n${OK}`, 'ok'],
    [
      'in chunks',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nab\r\n00a\r\n0123456789\r\n0\r\nx: y\r\n\r\n',
      'ab0123456789',
    ],
    ['in no chunk', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n', ''],
    ['that lasts until the end', 'HTTP/1.0 200 OK\r\n\r\nall of it', 'all of it'],
    ['that breaks off', 'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok', null],
    ['whose chunks break off', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab', null],
  ]

  test.each(answers)('is read the same however it is cut: %s', (_name, text, expected) => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 30 })), sizes => {
        const reader = new AnswerReader()
        let rest = Buffer.from(text)
        let answer = null
        for (const size of [...sizes, text.length]) {
          if (rest.length > 0) answer ??= reader.read(rest.subarray(0, size))
          rest = rest.subarray(size)
        }
        answer ??= reader.end()

        expect(answer?.body.toString() ?? null).toBe(expected)
      }),
    )
  })

  test.each([
    'SSH-2.0-OpenSSH\r\n\r\n',
    'HTTP/2 200\r\n\r\n',
    'HTTP/1.1 200 OK\r\nno colon\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n',
    `HTTP/1.1 200 OK\r\na: ${'x'.repeat(70_000)}`,
  ])('that is malformed is an error: %j', text => {
    expect(() => new AnswerReader().read(Buffer.from(text))).toThrow(/the (head of the )?answer/)
  })

  test('of random bytes is an error or incomplete', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        const reader = new AnswerReader()
        try {
          expect(reader.read(Buffer.from(bytes)) ?? reader.end()).toBeNull()
        } catch (error) {
          expect(String(error)).toContain('the answer')
        }
      }),
    )
  })
})
