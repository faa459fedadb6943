import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { PassThrough } from 'node:stream'
import { Hono } from 'hono'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { anApp } from './harness.ts'
import { aRequest, DESCRIBE, problemOf } from './requests.ts'

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

  test('nor is one that just closes, as the streams of some hosts do', async () => {
    const written: number[] = []
    const headers = Object.fromEntries(aRequest(DESCRIBE).headers)
    const incoming = Object.assign(new PassThrough(), { method: 'POST', headers })
    const outgoing = { on: () => {}, writeHead: (status: number) => written.push(status), end: () => {} }
    const answering = anApp(() => 1)(incoming as never, outgoing as never)

    incoming.write('{"kind"')
    incoming.destroy()
    await answering

    expect(written).toEqual([400])
  })

  test('what is none of these is refused', async () => {
    await expect((anApp(() => 1) as (value: unknown) => Promise<unknown>)({})).rejects.toThrow(TypeError)
  })
})
