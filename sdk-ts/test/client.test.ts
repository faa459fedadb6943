import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fingerprint, payloadOf, responseId, signHeaders, verify } from '@stepwell/protocol'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { StepwellClient, StepwellError } from '../src/index.ts'
import { KEY } from './engine-double.ts'
import { aFunction } from './harness.ts'

interface Received {
  method: string
  path: string
  body: string
  headers: http.IncomingHttpHeaders
}

type Answer = { status: number; body: unknown; key?: string } | 'drop'

let received: Received[] = []
let answers: Answer[] = []
let server: http.Server
let url = ''

/** A REST API that checks signatures and answers what the test has laid ready. */
beforeEach(async () => {
  received = []
  answers = []
  server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks).toString()
    const { method = '', url: path = '', headers } = request
    const header = (name: string) => String(headers[`webhook-${name}`])
    const signed = { id: header('id'), timestamp: header('timestamp'), signature: header('signature') }
    const payload = payloadOf(method, path, body)
    if (!verify({ headers: signed, payload, secrets: [KEY], nowMs: Date.now() }).ok) throw new Error('not signed')
    received.push({ method, path, body, headers })
    const answer = answers.length > 1 ? answers.shift() : answers[0]
    if (answer === undefined || answer === 'drop') return void request.socket.destroy()
    const text = JSON.stringify(answer.body)
    const id = responseId(signed.id)
    const own = signHeaders({ id, nowMs: Date.now(), payload: text, secrets: [answer.key ?? KEY] })
    response.writeHead(answer.status, { ...own }).end(text)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(() => {
  server.closeAllConnections()
  server.close()
  vi.unstubAllEnvs()
})

function aClient(options: ConstructorParameters<typeof StepwellClient>[0] = {}) {
  return new StepwellClient({ url, signingKey: KEY, ...options })
}

function aProblem(status: number, code: string, extra: object = {}): Answer {
  return {
    status,
    body: { type: `urn:stepwell:error:${code}`, title: code, status, code, detail: `it is ${code}`, ...extra },
  }
}

describe('send', () => {
  test('posts signed events with ids of their own and gives what they started', async () => {
    answers = [{ status: 202, body: { events: [{ id: 'x', runs: ['run_1'] }] } }]

    const sent = await aClient({ workspace: 'shop/prod' }).send({ name: 'user.created', data: { id: 1 } })

    expect(sent).toEqual([{ id: 'x', runs: ['run_1'] }])
    expect(received[0]).toMatchObject({ method: 'POST', path: '/v1/events' })
    expect(received[0]?.headers).toMatchObject({ 'stepwell-workspace': 'shop/prod', 'stepwell-version': '1' })
    expect(JSON.parse(received[0]?.body ?? '')).toEqual({
      events: [{ name: 'user.created', id: expect.stringMatching(/^evt_[0-9a-z]{26}$/), data: { id: 1 } }],
    })
  })

  test('keeps the ids and times of events that have them', async () => {
    answers = [{ status: 202, body: { events: [] } }]

    await aClient().send([{ name: 'a', id: 'mine', ts: '2026-01-01T01:00:00+01:00' }, { name: 'b' }])

    expect(JSON.parse(received[0]?.body ?? '').events).toMatchObject([
      { name: 'a', id: 'mine', ts: '2026-01-01T00:00:00.000Z' },
      { name: 'b', id: expect.stringMatching(/^evt_/) },
    ])
  })

  test('of nothing asks nobody', async () => {
    expect(await aClient().send([])).toEqual([])
    expect(received).toEqual([])
  })

  test.each<[string, Answer]>([
    ['the connection is lost', 'drop'],
    ['the engine is busy', aProblem(503, 'unavailable')],
    ['the engine is stopping', aProblem(503, 'draining')],
  ])('tries again under the same ids when %s', async (_name, trouble) => {
    answers = [trouble, trouble, { status: 202, body: { events: [{ id: 'x', runs: [] }] } }]

    await aClient().send({ name: 'a' })

    expect(received).toHaveLength(3)
    expect(new Set(received.map(({ body }) => body)).size).toBe(1)
    expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(3)
  })

  test('does not try again what the engine refuses, and says what it says', async () => {
    answers = [
      aProblem(422, 'body_invalid', { requestId: 'req_1', errors: [{ path: 'events[0].name', message: 'is empty' }] }),
    ]

    const error = await aClient()
      .send({ name: 'a' })
      .catch((thrown: unknown) => thrown)

    expect(error).toBeInstanceOf(StepwellError)
    expect(error).toMatchObject({
      code: 'body_invalid',
      message: 'it is body_invalid',
      status: 422,
      requestId: 'req_1',
      errors: [{ path: 'events[0].name', message: 'is empty' }],
    })
    expect(received).toHaveLength(1)
  })

  test('shows the fingerprints of both sides on 401', async () => {
    answers = [aProblem(401, 'signature_invalid', { fingerprints: ['0badcafe'] })]

    const error = await aClient()
      .send({ name: 'a' })
      .catch((thrown: unknown) => thrown)

    expect(error).toMatchObject({
      code: 'signature_invalid',
      fingerprints: { ours: [fingerprint(KEY)], theirs: ['0badcafe'] },
    })
    expect((error as Error).message).toContain(fingerprint(KEY))
  })

  test('names the path of data that is no JSON before anything is sent', async () => {
    const error = await aClient()
      .send({ name: 'a', data: { at: [new Set()] } })
      .catch((thrown: unknown) => thrown)

    expect(error).toMatchObject({ code: 'value_not_json', message: expect.stringContaining('$.at[0]') })
    expect(received).toEqual([])
  })
})

describe('an answer', () => {
  test('that is not signed with our key is refused', async () => {
    answers = [{ status: 200, body: { id: 'run_1' }, key: `whsec_${Buffer.alloc(32, 9).toString('base64')}` }]

    await expect(aClient().getRun('run_1')).rejects.toMatchObject({ code: 'signature_invalid' })
  })

  test('of something that is no engine is said to be', async () => {
    answers = [{ status: 404, body: 'Not here' }]

    await expect(aClient().getRun('run_1')).rejects.toMatchObject({
      status: 404,
      message: expect.stringContaining('not as an engine'),
    })
  })

  test('that does not come says where it was asked for', async () => {
    server.close()
    const client = aClient({ url: 'http://127.0.0.1:1' })

    await expect(client.getRun('run_1')).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('http://127.0.0.1:1'),
    })
  })
})

describe('sync', () => {
  test('says where the app is and what it serves', async () => {
    answers = [{ status: 200, body: { workspace: 'default/dev', url: 'x', functions: [], removed: [] } }]

    await aClient().sync([aFunction(() => 1)], { url: 'http://app:3000/api/stepwell' })

    expect(received[0]?.path).toBe('/v1/sync')
    expect(JSON.parse(received[0]?.body ?? '')).toEqual({ url: 'http://app:3000/api/stepwell', functions: ['fn'] })
  })

  test('takes the address from the environment', async () => {
    vi.stubEnv('STEPWELL_APP_URL', 'https://app.example/api/stepwell')
    answers = [{ status: 200, body: { functions: [] } }]

    await aClient().sync([aFunction(() => 1)])

    expect(JSON.parse(received[0]?.body ?? '').url).toBe('https://app.example/api/stepwell')
  })

  test.each([undefined, 'localhost:3000', 'ftp://app'])('refuses the address %s', async address => {
    vi.stubEnv('STEPWELL_APP_URL', address)

    await expect(aClient().sync([aFunction(() => 1)])).rejects.toMatchObject({ code: 'body_invalid' })
  })

  test('waits for an app that is not up yet, and not for one that answers wrongly', async () => {
    answers = [aProblem(502, 'app_unreachable'), aProblem(502, 'app_signature_invalid')]

    const error = await aClient()
      .sync([aFunction(() => 1)], { url: 'http://app/' })
      .catch((thrown: unknown) => thrown)

    expect(error).toMatchObject({ code: 'app_signature_invalid' })
    expect(received).toHaveLength(2)
  })

  test('waits for an engine that is not up yet', async () => {
    const { port } = server.address() as AddressInfo
    await new Promise(resolve => server.close(resolve))
    answers = [{ status: 200, body: { functions: [] } }]
    const syncing = aClient().sync([aFunction(() => 1)], { url: 'http://app/' })

    await new Promise(resolve => setImmediate(resolve))
    server.listen(port, '127.0.0.1')
    await syncing

    expect(received).toHaveLength(1)
  })
})

describe('runs', () => {
  test('are waited for until they have ended', async () => {
    answers = [
      { status: 200, body: { id: 'run_1', state: 'running' } },
      { status: 200, body: { id: 'run_1', state: 'waiting' } },
      { status: 200, body: { id: 'run_1', state: 'completed', output: 1 } },
    ]

    expect(await aClient().waitForRun('run_1')).toMatchObject({ state: 'completed', output: 1 })
    expect(received).toHaveLength(3)
  })

  test('are given as they are when the time is up', async () => {
    answers = [{ status: 200, body: { id: 'run_1', state: 'waiting' } }]

    expect(await aClient().waitForRun('run_1', { timeout: '20ms' })).toMatchObject({ state: 'waiting' })
  })

  test('that do not exist are said not to', async () => {
    answers = [aProblem(404, 'run_not_found')]

    await expect(aClient().getRun('run 1/2')).rejects.toMatchObject({ code: 'run_not_found', status: 404 })
    expect(received[0]?.path).toBe('/v1/runs/run%201%2F2')
  })

  test('have a journal that is read to its end', async () => {
    answers = [
      { status: 200, body: { entries: [{ seq: 1 }, { seq: 2 }], next: 2 } },
      { status: 200, body: { entries: [{ seq: 3 }], next: null } },
    ]

    expect(await aClient().getJournal('run_1')).toEqual([{ seq: 1 }, { seq: 2 }, { seq: 3 }])
    expect(received.map(({ path }) => path)).toEqual(['/v1/runs/run_1/journal', '/v1/runs/run_1/journal?after=2'])
  })
})

describe('a client without options', () => {
  test('finds the local engine in the dev file', async () => {
    const home = await mkdtemp(join(tmpdir(), 'stepwell-'))
    vi.stubEnv('STEPWELL_HOME', home)
    vi.stubEnv('STEPWELL_URL', undefined)
    vi.stubEnv('STEPWELL_SIGNING_KEY', undefined)
    answers = [{ status: 200, body: { id: 'run_1' } }]
    const client = new StepwellClient()
    const before = await client.getRun('run_1').catch((error: unknown) => error)
    await writeFile(join(home, 'dev.json'), JSON.stringify({ url, pid: 1, signingKey: KEY }))

    const run = await client.getRun('run_1')
    await rm(home, { recursive: true })

    expect(before).toMatchObject({ code: 'signature_missing', message: expect.stringContaining('stepwell dev') })
    expect(run).toEqual({ id: 'run_1' })
    expect(received[0]?.headers['stepwell-workspace']).toBe('default/dev')
  })

  test('does not guess in production', async () => {
    vi.stubEnv('NODE_ENV', 'production')
    vi.stubEnv('STEPWELL_URL', undefined)

    await expect(new StepwellClient({ signingKey: KEY }).getRun('r')).rejects.toThrow(/STEPWELL_URL/)
  })

  test.each([{ url: 'localhost:3030' }, { signingKey: 'x' }])('refuses malformed options at once: %j', options => {
    expect(() => new StepwellClient(options)).toThrow(TypeError)
  })
})

test('an app that starts before the first `stepwell dev` waits for its key', async () => {
  const home = await mkdtemp(join(tmpdir(), 'stepwell-home-'))
  vi.stubEnv('STEPWELL_HOME', home)
  vi.stubEnv('STEPWELL_SIGNING_KEY', undefined)
  vi.stubEnv('NODE_ENV', 'development')
  answers = [{ status: 200, body: { workspace: 'default/dev', url: 'http://localhost:1', functions: [], removed: [] } }]
  const client = new StepwellClient({ appUrl: 'http://localhost:1' })

  const synced = client.sync([aFunction(() => null)])
  await new Promise(resolve => setTimeout(resolve, 50))
  await writeFile(join(home, 'dev.json'), JSON.stringify({ url, pid: 1, signingKey: KEY }))

  expect((await synced).workspace).toBe('default/dev')
  await rm(home, { recursive: true })
})
