/** The REST API of an engine: a real HTTP server that checks signatures and answers what the test has laid ready. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { payloadOf, responseId, signHeaders, verify } from '@stepwell/protocol'
import { afterEach, beforeEach, vi } from 'vitest'
import { StepwellClient } from '../src/index.ts'
import { KEY } from './engine-double.ts'

interface Received {
  method: string
  path: string
  body: string
  headers: http.IncomingHttpHeaders
}

export type Answer = { status: number; body: unknown; key?: string } | 'drop'

/** What was asked, and what the next answers are; the last one is given for ever. New for every test. */
export const rest = { received: [] as Received[], answers: [] as Answer[], url: '', server: http.createServer() }

beforeEach(async () => {
  rest.received = []
  rest.answers = []
  rest.server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks).toString()
    const { method = '', url: path = '', headers } = request
    const header = (name: string) => String(headers[`webhook-${name}`])
    const signed = { id: header('id'), timestamp: header('timestamp'), signature: header('signature') }
    const payload = payloadOf(method, path, body)
    if (!verify({ headers: signed, payload, secrets: [KEY], nowMs: Date.now() }).ok) throw new Error('not signed')
    rest.received.push({ method, path, body, headers })
    const answer = rest.answers.length > 1 ? rest.answers.shift() : rest.answers[0]
    if (answer === undefined || answer === 'drop') return void request.socket.destroy()
    const text = JSON.stringify(answer.body)
    const id = responseId(signed.id)
    const own = signHeaders({ id, nowMs: Date.now(), payload: text, secrets: [answer.key ?? KEY] })
    response.writeHead(answer.status, { ...own }).end(text)
  })
  await new Promise<void>(resolve => rest.server.listen(0, '127.0.0.1', resolve))
  rest.url = `http://127.0.0.1:${(rest.server.address() as AddressInfo).port}`
})
afterEach(() => {
  rest.server.closeAllConnections()
  rest.server.close()
  vi.unstubAllEnvs()
})

/** A client of it. */
export function aClient(options: ConstructorParameters<typeof StepwellClient>[0] = {}) {
  return new StepwellClient({ url: rest.url, signingKey: KEY, ...options })
}

/** What it answers when it refuses. */
export function aProblem(status: number, code: string, extra: object = {}): Answer {
  return {
    status,
    body: { type: `urn:stepwell:error:${code}`, title: code, status, code, detail: `it is ${code}`, ...extra },
  }
}
