import type { AddressInfo } from 'node:net'
import { fingerprint } from '@stepwell/protocol'
import { describe, expect, test, vi } from 'vitest'
import { StepwellError } from '../src/index.ts'
import { KEY } from './engine-double.ts'
import { aFunction } from './harness.ts'
import { type Answer, aClient, aProblem, rest } from './rest-double.ts'

describe('send', () => {
  test('posts signed events with ids of their own and gives what they started', async () => {
    rest.answers = [{ status: 202, body: { events: [{ id: 'x', runs: ['run_1'] }] } }]

    const sent = await aClient({ workspace: 'shop/prod' }).send({ name: 'user.created', data: { id: 1 } })

    expect(sent).toEqual([{ id: 'x', runs: ['run_1'] }])
    expect(rest.received[0]).toMatchObject({ method: 'POST', path: '/v1/events' })
    expect(rest.received[0]?.headers).toMatchObject({ 'stepwell-workspace': 'shop/prod', 'stepwell-version': '1' })
    expect(JSON.parse(rest.received[0]?.body ?? '')).toEqual({
      events: [{ name: 'user.created', id: expect.stringMatching(/^evt_[0-9a-z]{26}$/), data: { id: 1 } }],
    })
  })

  test('keeps the ids and times of events that have them', async () => {
    rest.answers = [{ status: 202, body: { events: [] } }]

    await aClient().send([{ name: 'a', id: 'mine', ts: '2026-01-01T01:00:00+01:00' }, { name: 'b' }])

    expect(JSON.parse(rest.received[0]?.body ?? '').events).toMatchObject([
      { name: 'a', id: 'mine', ts: '2026-01-01T00:00:00.000Z' },
      { name: 'b', id: expect.stringMatching(/^evt_/) },
    ])
  })

  test('takes an id or a time of undefined for none: its own retries start nothing twice', async () => {
    rest.answers = ['drop', { status: 202, body: { events: [] } }]

    await aClient().send({ name: 'a', id: undefined, ts: undefined } as never)

    const [first, second] = rest.received.map(({ body }) => body)
    expect(JSON.parse(first ?? '').events).toEqual([{ name: 'a', id: expect.stringMatching(/^evt_[0-9a-z]{26}$/) }])
    expect(second).toBe(first)
  })

  test('of nothing asks nobody', async () => {
    expect(await aClient().send([])).toEqual([])
    expect(rest.received).toEqual([])
  })

  test.each<[string, Answer]>([
    ['the connection is lost', 'drop'],
    ['the engine is busy', aProblem(503, 'unavailable')],
    ['the engine is stopping', aProblem(503, 'draining')],
  ])('tries again under the same ids when %s', async (_name, trouble) => {
    rest.answers = [trouble, trouble, { status: 202, body: { events: [{ id: 'x', runs: [] }] } }]

    await aClient().send({ name: 'a' })

    expect(rest.received).toHaveLength(3)
    expect(new Set(rest.received.map(({ body }) => body)).size).toBe(1)
    expect(new Set(rest.received.map(({ headers }) => headers['webhook-id'])).size).toBe(3)
  })

  test('does not try again what the engine refuses, and says what it says', async () => {
    rest.answers = [
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
    expect(rest.received).toHaveLength(1)
  })

  test('shows the fingerprints of both sides on 401', async () => {
    rest.answers = [aProblem(401, 'signature_invalid', { fingerprints: ['0badcafe'] })]

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
    expect(rest.received).toEqual([])
  })
})

describe('an answer', () => {
  test('that is not signed with our key is refused', async () => {
    rest.answers = [{ status: 200, body: { id: 'run_1' }, key: `whsec_${Buffer.alloc(32, 9).toString('base64')}` }]

    await expect(aClient().getRun('run_1')).rejects.toMatchObject({ code: 'signature_invalid' })
  })

  test('of something that is no engine is said to be', async () => {
    rest.answers = [{ status: 404, body: 'Not here' }]

    await expect(aClient().getRun('run_1')).rejects.toMatchObject({
      status: 404,
      message: expect.stringContaining('not as an engine'),
    })
  })

  test('that does not come says where it was asked for', async () => {
    rest.server.close()
    const client = aClient({ url: 'http://127.0.0.1:1' })

    await expect(client.getRun('run_1')).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('http://127.0.0.1:1'),
    })
  })
})

describe('sync', () => {
  test('says where the app is and what it serves', async () => {
    rest.answers = [{ status: 200, body: { workspace: 'default/dev', url: 'x', functions: [], removed: [] } }]

    await aClient().sync([aFunction(() => 1)], { url: 'http://app:3000/api/stepwell' })

    expect(rest.received[0]?.path).toBe('/v1/sync')
    expect(JSON.parse(rest.received[0]?.body ?? '')).toEqual({ url: 'http://app:3000/api/stepwell', functions: ['fn'] })
  })

  test('takes the address from the environment', async () => {
    vi.stubEnv('STEPWELL_APP_URL', 'https://app.example/api/stepwell')
    rest.answers = [{ status: 200, body: { functions: [] } }]

    await aClient().sync([aFunction(() => 1)])

    expect(JSON.parse(rest.received[0]?.body ?? '').url).toBe('https://app.example/api/stepwell')
  })

  test.each([undefined, 'localhost:3000', 'ftp://app'])('refuses the address %s', async address => {
    vi.stubEnv('STEPWELL_APP_URL', address)

    await expect(aClient().sync([aFunction(() => 1)])).rejects.toMatchObject({ code: 'body_invalid' })
  })

  test('waits for an app that is not up yet, and not for one that answers wrongly', async () => {
    rest.answers = [aProblem(502, 'app_unreachable'), aProblem(502, 'app_signature_invalid')]

    const error = await aClient()
      .sync([aFunction(() => 1)], { url: 'http://app/' })
      .catch((thrown: unknown) => thrown)

    expect(error).toMatchObject({ code: 'app_signature_invalid' })
    expect(rest.received).toHaveLength(2)
  })

  test('waits for an engine that is not up yet', async () => {
    const { port } = rest.server.address() as AddressInfo
    await new Promise(resolve => rest.server.close(resolve))
    rest.answers = [{ status: 200, body: { functions: [] } }]
    const syncing = aClient().sync([aFunction(() => 1)], { url: 'http://app/' })

    await new Promise(resolve => setImmediate(resolve))
    rest.server.listen(port, '127.0.0.1')
    await syncing

    expect(rest.received).toHaveLength(1)
  })
})

describe('sendAndWait', () => {
  const sent = (events: object[]) => ({ status: 202, body: { events } })

  test('gives the runs as they ended, in one request', async () => {
    const run = { id: 'run_1', state: 'completed', output: 1 }
    rest.answers = [sent([{ id: 'x', runs: ['run_1'], ended: [run] }])]

    const runs = await aClient().sendAndWait({ name: 'a', data: { n: 1 } })

    expect(runs).toEqual([run])
    expect(rest.received.map(({ method, path }) => `${method} ${path}`)).toEqual(['POST /v1/events?wait=20000ms'])
    expect(JSON.parse(rest.received[0]?.body ?? '').events).toMatchObject([{ name: 'a', data: { n: 1 } }])
  })

  test('goes on waiting for those that had not ended, in the order in which they were started', async () => {
    const running = { id: 'run_1', state: 'running' }
    const ended = [{ id: 'run_2', state: 'failed' }, running]
    rest.answers = [
      sent([{ id: 'x', runs: ['run_1', 'run_2'], ended }]),
      { status: 200, body: { id: 'run_1', state: 'completed' } },
    ]

    const runs = await aClient().sendAndWait({ name: 'a' })

    expect(runs).toEqual([
      { id: 'run_1', state: 'completed' },
      { id: 'run_2', state: 'failed' },
    ])
    expect(rest.received.map(({ path }) => path.replace(/=\d+/, '='))).toEqual([
      '/v1/events?wait=ms',
      '/v1/runs/run_1?wait=ms',
    ])
  })

  test('gives nothing for an event that starts nothing', async () => {
    rest.answers = [sent([{ id: 'x', runs: [], ended: [] }])]

    expect(await aClient().sendAndWait({ name: 'a' })).toEqual([])
  })

  test('tries again under the same id when the connection is lost', async () => {
    rest.answers = ['drop', sent([{ id: 'x', runs: [] }])]

    await aClient().sendAndWait({ name: 'a' })

    const bodies = rest.received.map(({ body }) => body)
    expect(bodies[1]).toBe(bodies[0])
    expect(bodies[0]).toContain('"id":"evt_')
  })

  test('gives the runs as they are when the time is up', async () => {
    const run = { id: 'run_1', state: 'waiting' }
    rest.answers = [sent([{ id: 'x', runs: ['run_1'], ended: [run] }]), { status: 200, body: run }]

    expect(await aClient().sendAndWait({ name: 'a' }, { timeout: 5 })).toEqual([run])
  })

  test('sends with no wait when the time is up before it begins', async () => {
    rest.answers = [sent([{ id: 'x', runs: [] }])]
    vi.spyOn(performance, 'now').mockReturnValueOnce(performance.now() - 1_000)

    await aClient().sendAndWait({ name: 'a' }, { timeout: 0 })

    expect(rest.received.map(({ path }) => path)).toEqual(['/v1/events?wait=0ms'])
    vi.restoreAllMocks()
  })
})

describe('runs', () => {
  test('are waited for until they have ended', async () => {
    rest.answers = [
      { status: 200, body: { id: 'run_1', state: 'running' } },
      { status: 200, body: { id: 'run_1', state: 'waiting' } },
      { status: 200, body: { id: 'run_1', state: 'completed', output: 1 } },
    ]

    expect(await aClient().waitForRun('run_1')).toMatchObject({ state: 'completed', output: 1 })
    expect(rest.received).toHaveLength(3)
  })

  test('are asked for once when the engine waits: 20 seconds at most, and never longer than the caller', async () => {
    rest.answers = [{ status: 200, body: { id: 'run_1', state: 'completed' } }]

    await aClient().waitForRun('run_1', { timeout: '45s' })
    await aClient().waitForRun('run_1', { timeout: '5s' })
    await aClient().waitForRun('run_1', { timeout: 0 })

    const waits = rest.received.map(({ path }) => Number(/^\/v1\/runs\/run_1\?wait=(\d+)ms$/.exec(path)?.[1]))
    expect(waits[0]).toBe(20_000)
    expect(waits[1]).toBeGreaterThan(4_000)
    expect(waits[1]).toBeLessThanOrEqual(5_000)
    expect(waits[2]).toBe(0)
  })

  test('are asked for again when the engine stops while it waits', async () => {
    rest.answers = ['drop', aProblem(503, 'draining'), { status: 200, body: { id: 'run_1', state: 'failed' } }]

    expect(await aClient().waitForRun('run_1')).toMatchObject({ state: 'failed' })
    expect(rest.received).toHaveLength(3)
  })

  test('are given as they are when the time is up', async () => {
    rest.answers = [{ status: 200, body: { id: 'run_1', state: 'waiting' } }]

    expect(await aClient().waitForRun('run_1', { timeout: '20ms' })).toMatchObject({ state: 'waiting' })
  })

  test('that do not exist are said not to', async () => {
    rest.answers = [aProblem(404, 'run_not_found')]

    await expect(aClient().getRun('run 1/2')).rejects.toMatchObject({ code: 'run_not_found', status: 404 })
    expect(rest.received[0]?.path).toBe('/v1/runs/run%201%2F2')
  })

  test('have a journal that is read to its end', async () => {
    rest.answers = [
      { status: 200, body: { entries: [{ seq: 1 }, { seq: 2 }], next: 2 } },
      { status: 200, body: { entries: [{ seq: 3 }], next: null } },
    ]

    expect(await aClient().getJournal('run_1')).toEqual([{ seq: 1 }, { seq: 2 }, { seq: 3 }])
    expect(rest.received.map(({ path }) => path)).toEqual(['/v1/runs/run_1/journal', '/v1/runs/run_1/journal?after=2'])
  })
})
