/*
 * Apps that do not answer as they should. The run says why, in words, keeps its attempts, and goes on when the app is well.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { responseId, signHeaders, type Turn } from '@stepwell/protocol'
import { createFunction, serve } from '@stepwell/sdk'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { type ListeningServer, listen, readBody } from '../support/app-server.ts'
import { startSystem, type TestSystem } from '../support/system.ts'
import { waitUntil } from '../support/wait-until.ts'

type Answer = (request: IncomingMessage, response: ServerResponse, body: Buffer) => unknown

const TURN_TIMEOUT_MS = 800

let system: TestSystem
let app: ListeningServer
/** What turns get instead of the SDK's answer; null when the app is well. */
let unwell: Answer | null = null
let executions = 0

const work = createFunction({
  id: 'work',
  trigger: { event: 'work' },
  handler: async ({ step }) => step.run('only', ({ attempt }) => ({ executions: ++executions, attempt })),
})

beforeAll(async () => {
  system = await startSystem({ turnTimeoutMs: TURN_TIMEOUT_MS })
  const well = serve([work], { signingKey: system.signingKey })
  app = await listen(async (request, response) => {
    if (unwell === null) return well(request, response)
    const body = await readBody(request)
    return unwell(request, response, body)
  })
  await system.client.sync([work], { url: app.url })
})
afterAll(async () => {
  await app.close()
  await system.stop()
})
beforeEach(() => {
  executions = 0
})
afterEach(async () => {
  unwell = null
  expect(await system.brokenInvariants()).toEqual([])
})

/** Answers 200, signed as it should be. */
function signed(request: IncomingMessage, response: ServerResponse, text: string, key = system.signingKey): void {
  const id = responseId(String(request.headers['webhook-id']))
  const headers = signHeaders({ id, nowMs: Date.now(), payload: text, secrets: [key] })
  response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(text)
}

const OTHER_KEY = `whsec_${Buffer.alloc(32, 9).toString('base64')}`

function reportOf(body: Buffer): object {
  const turn = JSON.parse(body.toString()) as Turn
  return {
    kind: 'report',
    run: turn.run.id,
    generation: turn.run.generation,
    turn: turn.turn,
    epoch: turn.epoch,
    n: 1,
    state: 'done',
    ops: [{ op: 'finish', output: 'forged' }],
  }
}

const CASES: [string, Answer, RegExp][] = [
  ['500', (_q, response) => response.writeHead(500).end('it broke'), /answered 500: .*it broke/],
  [
    'HTML with 200',
    (_q, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Log in</html>'),
    /not signed as it should be .*Log in/,
  ],
  ['an empty body', (_q, response) => response.writeHead(200).end(), /an empty body/],
  [
    'a body of 100 MB',
    async (_q, response) => {
      response.writeHead(200)
      const chunk = Buffer.alloc(1024 * 1024, 'x')
      for (let sent = 0; sent < 100 && !response.destroyed; sent += 1)
        if (!response.write(chunk)) await new Promise(resolve => response.once('drain', resolve).once('close', resolve))
      response.end()
    },
    /more than 4194304 bytes/,
  ],
  [
    'a redirect',
    (_q, response) => response.writeHead(302, { location: 'https://example.com/login' }).end(),
    /answered 302 to https:\/\/example.com\/login\. Redirects are not followed/,
  ],
  ['nothing for the whole budget', () => {}, /no sign of life for 0\.8 s/],
  [
    'half an answer',
    (_q, response) =>
      void response.writeHead(200, { 'content-length': '1000' }).write('{"kind":', () => response.destroy()),
    /closed the connection/,
  ],
  ['no answer at all', request => request.socket.destroy(), /closed the connection/],
  [
    'a report that is signed with another key',
    (request, response, body) => signed(request, response, JSON.stringify(reportOf(body)), OTHER_KEY),
    /signature/i,
  ],
  [
    'a report whose body was changed',
    (request, response, body) => {
      const text = JSON.stringify(reportOf(body))
      const headers = signHeaders({
        id: responseId(String(request.headers['webhook-id'])),
        nowMs: Date.now(),
        payload: text,
        secrets: [system.signingKey],
      })
      response.writeHead(200, { ...headers }).end(text.replace('forged', 'FORGED'))
    },
    /signature/i,
  ],
  [
    'a report that answers another request',
    (_q, response, body) => {
      const text = JSON.stringify(reportOf(body))
      response
        .writeHead(200, {
          ...signHeaders({ id: 're_msg_other', nowMs: Date.now(), payload: text, secrets: [system.signingKey] }),
        })
        .end(text)
    },
    /belongs to another request/,
  ],
  [
    'a report with an old timestamp',
    (request, response, body) => {
      const text = JSON.stringify(reportOf(body))
      const id = responseId(String(request.headers['webhook-id']))
      response
        .writeHead(200, {
          ...signHeaders({ id, nowMs: Date.now() - 400_000, payload: text, secrets: [system.signingKey] }),
        })
        .end(text)
    },
    /timestamp|seconds/i,
  ],
  [
    'its own request back',
    (request, response, body) =>
      response
        .writeHead(200, {
          'webhook-id': request.headers['webhook-id'],
          'webhook-timestamp': request.headers['webhook-timestamp'],
          'webhook-signature': request.headers['webhook-signature'],
        })
        .end(body),
    /belongs to another request/,
  ],
  [
    'signed JSON of another kind',
    (request, response) => signed(request, response, '{"kind":"cake"}'),
    /malformed report/,
  ],
  ['something signed that is not JSON', (request, response) => signed(request, response, 'cake'), /not JSON/],
  [
    'a report of another epoch',
    (request, response, body) => signed(request, response, JSON.stringify({ ...reportOf(body), epoch: '42' })),
    /another turn/,
  ],
  [
    'waiting for nothing',
    (request, response, body) =>
      signed(request, response, JSON.stringify({ ...reportOf(body), state: 'waiting', ops: [] })),
    /nothing that it asked for is open/,
  ],
]

test.each(CASES)(
  'an app that answers %s: the run says why, and finishes when the app is well',
  async (_name, answer, words) => {
    unwell = answer
    const [sent] = await system.client.send({ name: 'work' })
    const id = sent?.runs[0] ?? ''

    await waitUntil('the run says why', async () => (await system.client.getRun(id)).waitingFor !== null)
    const stuck = await system.client.getRun(id)
    const before = await system.journal(id)
    unwell = null
    const run = await system.waitForState(id, 'completed', 'failed')

    expect(stuck.waitingFor).toMatch(words)
    expect(stuck.waitingFor).toMatch(/Tried (once|\d+ times) since .* (Next try at|Trying again now)/)
    expect(stuck.waitingFor).not.toContain('whsec_')
    expect(before.map(entry => entry.type)).toEqual(['run_started'])
    expect(run).toMatchObject({ state: 'completed', output: { executions: 1, attempt: 1 }, waitingFor: null })
  },
)

test('an app with another key: the run shows both fingerprints and no key', async () => {
  const wrong = serve([work], { signingKey: OTHER_KEY })
  unwell = () => {}
  const refusing = await listen((request, response) => wrong(request, response))
  await system.engine.pools.read`update stepwell.workspaces set url = ${refusing.url}, version = version + 1`
  const [sent] = await system.client.send({ name: 'work' })
  const id = sent?.runs[0] ?? ''

  await waitUntil('the run says why', async () => (await system.client.getRun(id)).waitingFor !== null)
  const { waitingFor } = await system.client.getRun(id)
  unwell = null
  await system.client.sync([work], { url: app.url })
  await system.waitForState(id, 'completed')
  await refusing.close()

  expect(waitingFor).toMatch(/we sign with key [0-9a-f]{8}, the app has [0-9a-f]{8}/)
  expect(waitingFor).not.toContain('whsec_')
})

test('an app that is not there', async () => {
  await system.engine.pools.read`update stepwell.workspaces set url = 'http://127.0.0.1:9/', version = version + 1`
  const [sent] = await system.client.send({ name: 'work' })
  const id = sent?.runs[0] ?? ''

  await waitUntil('the run says why', async () => (await system.client.getRun(id)).waitingFor !== null)
  const { waitingFor } = await system.client.getRun(id)
  await system.client.sync([work], { url: app.url })
  const run = await system.waitForState(id, 'completed')

  expect(waitingFor).toMatch(/App at http:\/\/127\.0\.0\.1:9\/ cannot be reached \(ECONNREFUSED\)/)
  expect(run.output).toEqual({ executions: 1, attempt: 1 })
})

test('a sync makes runs that wait for their app try again at once, whatever their back-off', async () => {
  unwell = (_request, response) => response.writeHead(503).end()
  const [sent] = await system.client.send({ name: 'work' })
  const id = sent?.runs[0] ?? ''
  await waitUntil('the run says why', async () => (await system.client.getRun(id)).waitingFor !== null)
  await system.engine.pools.read`update stepwell.waits set due_at = now() + interval '1 hour' where kind = 'resend'`
  unwell = null

  await system.client.sync([work], { url: app.url })

  expect((await system.waitForState(id, 'completed')).state).toBe('completed')
})
