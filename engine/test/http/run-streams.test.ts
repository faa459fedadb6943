/* Following a run over HTTP: who may, what they get, and what pages of other origins may read. */
import { encodeId, type StreamTokenAnswer } from '@stepwell/protocol'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { RunId, WorkspaceId } from '../../src/core/ids.ts'
import { createStreamToken } from '../../src/http/stream-tokens.ts'
import { streamTokenView } from '../../src/http/views.ts'
import { ingest } from '../../src/store/ingest.ts'
import { anAdvance, anEvent, aRecord, type Leased, leaseOne, newUuid, type Store, writeOne } from '../store/fixture.ts'
import { aKey, type Http, problemOf, useHttp } from './harness.ts'

const STREAMS_MAX = 3
const http = useHttp('start', { streamsMax: STREAMS_MAX })
const dev = useHttp('dev')

/** A run that another process holds, with what it has published. */
async function aRun(
  on: Http,
  messages: [channel: string, data: unknown][] = [],
  state: 'running' | 'done' = 'running',
) {
  const catalog = await on.engine.catalogs.byName(on.workspace)
  const store = { sql: on.sql, ws: catalog?.ws as WorkspaceId, worker: newUuid(), connection: '' } as Store
  const event = anEvent({ name: 'start', shapes: [], starts: ['greet'] })
  await ingest(on.sql, store.ws, catalog?.version ?? '', [event])
  const runId = event.runs[0]?.id as RunId
  const leased = await leaseOne(store)
  await publish(store, leased, messages, state)
  return { store, leased, runId, id: encodeId('run', runId), path: `/v1/runs/${encodeId('run', runId)}/stream` }
}

function publish(store: Store, leased: Leased, messages: [string, unknown][], state: 'running' | 'done', from = 0) {
  const changes = messages.flatMap(([channel, data], n) => [
    { kind: 'publish' as const, channel, data: JSON.stringify(data) },
    aRecord({ type: 'published', key: `publish:${channel}#${from + n + 2}`, data: '{}' }),
  ])
  return writeOne(store, anAdvance(leased, changes, state, { nextSeq: from + 2 }))
}

async function tokenOf(on: Http, id: string, body?: object): Promise<string> {
  const response = await on.signed('POST', `/v1/runs/${id}/tokens`, body)
  expect(response.status).toBe(201)
  return ((await response.json()) as StreamTokenAnswer).token
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const eventsOf = (text: string) => [...text.matchAll(/^(?:id|event|data): (.*)$/gm)].map(([, value]) => value)

const MESSAGES: [string, unknown][] = [
  ['progress', { percent: 10 }],
  ['log', 'half\nway'],
  ['progress', { percent: 100 }],
]

describe('the stream of a run that has ended', () => {
  let run: Awaited<ReturnType<typeof aRun>>
  let token: string
  beforeAll(async () => {
    run = await aRun(http, MESSAGES, 'done')
    token = await tokenOf(http, run.id)
  })

  const read = async (query = '', headers: Record<string, string> = {}) => {
    const response = await http.call('GET', `${run.path}${query}`, undefined, {
      headers: { ...bearer(token), ...headers },
    })
    expect(response.status).toBe(200)
    return eventsOf(await response.text())
  }
  const END = ['stepwell.end', '{"state":"completed"}']

  test('has all of its messages in order, and the end', async () => {
    expect(await read()).toEqual([
      ...['1', 'progress', '{"percent":10}'],
      ...['2', 'log', '"half\\nway"'],
      ...['3', 'progress', '{"percent":100}'],
      ...END,
    ])
  })

  test('goes on after the cursor; that of the header counts, which a browser sends when it comes back', async () => {
    expect(await read('?after=2')).toEqual(['3', 'progress', '{"percent":100}', ...END])
    expect(await read('?after=0', { 'last-event-id': '2' })).toEqual(['3', 'progress', '{"percent":100}', ...END])
    expect(await read('?after=3')).toEqual(END)
  })

  test('has the channels that are asked for', async () => {
    expect(await read('?channel=log')).toEqual(['2', 'log', '"half\\nway"', ...END])
    expect((await read('?channel=log&channel=progress')).filter(value => /^\d$/.test(value ?? ''))).toEqual([
      '1',
      '2',
      '3',
    ])
  })

  test('is not kept by anybody on the way', async () => {
    const response = await http.call('GET', run.path, undefined, { headers: bearer(token) })

    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
    })
    await response.body?.cancel()
  })

  test('is read by a signed request as well, and by a token in the address', async () => {
    expect(eventsOf(await (await http.signed('GET', run.path)).text())).toHaveLength(11)
    expect(eventsOf(await (await http.call('GET', `${run.path}?token=${token}`)).text())).toHaveLength(11)
  })

  test.each(['?after=-1', '?after=x', '?after=1&after=2', '?channel=', '?channel=a%0Ab', '?channels=a', '?after=1e3'])(
    'is refused with the query %s',
    async query => {
      const response = await http.call('GET', run.path + query, undefined, { headers: bearer(token) })

      expect((await problemOf(response)).code).toBe('query_invalid')
    },
  )

  test('is refused with more channels than a token may have, and with a cursor that is none', async () => {
    const many = Array.from({ length: 33 }, (_, n) => `channel=c${n}`).join('&')
    for (const [query, headers] of [
      [`?${many}`, {}],
      ['', { 'last-event-id': 'x' }],
    ] as const) {
      const response = await http.call('GET', run.path + query, undefined, {
        headers: { ...bearer(token), ...headers },
      })
      expect((await problemOf(response)).code).toBe('query_invalid')
    }
  })
})

describe('the stream of a run that goes on', () => {
  test('has what comes, and each message once for one that reconnects with its cursor', async () => {
    const { store, leased, id, path } = await aRun(http, [['log', 1]])
    const headers = bearer(await tokenOf(http, id))
    const first = (await http.call('GET', path, undefined, { headers })).body?.getReader()
    if (first === undefined) throw new Error('no body')
    let text = ''
    const readUntil = async (wanted: string) => {
      while (!text.includes(wanted)) text += new TextDecoder().decode((await first.read()).value)
    }
    await readUntil('id: 1\n')
    await publish(store, leased, [['log', 2]], 'running', 1)
    await readUntil('id: 2\n')

    await first.cancel()
    await publish(store, leased, [['log', 3]], 'running', 2)
    await publish(store, leased, [['log', 4]], 'done', 3)
    const rest = await http.call('GET', path, undefined, { headers: { ...headers, 'last-event-id': '2' } })

    expect(eventsOf(text)).toEqual(['1', 'log', '1', '2', 'log', '2'])
    expect(eventsOf(await rest.text())).toEqual([
      '3',
      'log',
      '3',
      '4',
      'log',
      '4',
      'stepwell.end',
      '{"state":"completed"}',
    ])
  })

  test('is let go of when its reader is, and HEAD opens none', async () => {
    const { id, path } = await aRun(http)
    const headers = bearer(await tokenOf(http, id))

    for (let n = 0; n < 2 * STREAMS_MAX; n += 1) {
      const response = await http.call('GET', path, undefined, { headers })
      expect(response.status).toBe(200)
      await response.body?.cancel()
      expect((await http.call('HEAD', path, undefined, { headers })).status).toBe(200)
    }
  })

  test('is refused where as many are open as may be', async () => {
    const { id, path } = await aRun(http)
    const headers = bearer(await tokenOf(http, id))
    const open = () => http.call('GET', path, undefined, { headers })
    const streams = await Promise.all(Array.from({ length: STREAMS_MAX }, open))

    const refused = await open()

    expect((await problemOf(refused)).code).toBe('too_many_streams')
    expect(refused.status).toBe(503)
    expect(refused.headers.get('retry-after')).toBe('1')
    for (const stream of streams) await stream.body?.cancel()
  })
})

describe('a token', () => {
  let run: Awaited<ReturnType<typeof aRun>>
  beforeEach(async () => {
    run = await aRun(http, MESSAGES, 'done')
  })

  test('is good for a quarter of an hour, or as long as is said', async () => {
    for (const [body, ms] of [
      [undefined, 900_000],
      [{}, 900_000],
      [{ ttlMs: 86_400_000 }, 86_400_000],
    ] as const) {
      const response = await http.signed('POST', `/v1/runs/${run.id}/tokens`, body)
      const { expiresAt } = streamTokenView.parse(await response.json())
      expect(Math.abs(Date.parse(expiresAt) - Date.now() - ms)).toBeLessThan(5_000)
    }
  })

  test.each([
    { ttlMs: 86_400_001 },
    { ttlMs: 0 },
    { channels: [] },
    { channels: ['stepwell.end'] },
    { channel: ['a'] },
    [],
  ])('is refused for %j', async body => {
    const problem = await problemOf(await http.signed('POST', `/v1/runs/${run.id}/tokens`, body))

    expect(problem.code).toBe('body_invalid')
  })

  test('is refused to whoever has no key: without a signature, and with a token', async () => {
    const token = await tokenOf(http, run.id)
    for (const headers of [{}, bearer(token)]) {
      const response = await http.call('POST', `/v1/runs/${run.id}/tokens`, {}, { headers })
      expect((await problemOf(response)).code).toBe('signature_missing')
    }
  })

  test('of a run that is not there is refused', async () => {
    for (const id of [encodeId('run', newUuid()), 'run_1']) {
      const problem = await problemOf(await http.signed('POST', `/v1/runs/${id}/tokens`, {}))
      expect(problem).toMatchObject({ code: 'run_not_found', status: 404 })
    }
  })

  test('opens nothing but streams', async () => {
    const headers = bearer(await tokenOf(http, run.id))

    for (const path of [`/v1/runs/${run.id}`, '/v1/runs', `/v1/runs/${run.id}/journal`]) {
      const response = await http.call('GET', `${path}?token=x`, undefined, { headers })
      expect((await problemOf(response)).code).toBe('signature_missing')
      expect(response.headers.get('access-control-allow-origin')).toBeNull()
    }
  })

  test('is for its run and its channels only', async () => {
    const other = await aRun(http, [], 'done')
    const headers = bearer(await tokenOf(http, run.id, { channels: ['log'] }))

    const wrongRun = await problemOf(await http.call('GET', other.path, undefined, { headers }))
    const wrongChannel = await problemOf(await http.call('GET', `${run.path}?channel=progress`, undefined, { headers }))
    const all = await http.call('GET', run.path, undefined, { headers })

    expect(wrongRun).toMatchObject({ code: 'stream_not_allowed', status: 403 })
    expect(wrongRun.detail).toContain(run.id)
    expect(wrongChannel).toMatchObject({ code: 'stream_not_allowed', status: 403 })
    expect(wrongChannel.detail).toContain('"progress"')
    expect(eventsOf(await all.text()).slice(0, 3)).toEqual(['2', 'log', '"half\\nway"'])
  })

  test('that is not valid or has expired is refused, and the page may read why', async () => {
    const claims = { run: run.id, channels: null, ttlMs: 1_000 }
    const catalog = { name: http.workspace, keys: [http.key] }
    const expired = await createStreamToken(catalog, { ...claims, nowMs: Date.now() - 60_000 })
    const foreign = await createStreamToken({ ...catalog, keys: [aKey()] }, { ...claims, nowMs: Date.now() })
    const cases: [string, string][] = [
      [expired.token, 'stream_token_expired'],
      [foreign.token, 'stream_token_invalid'],
      ['nonsense', 'stream_token_invalid'],
    ]

    for (const [token, code] of cases) {
      const response = await http.call('GET', run.path, undefined, { headers: bearer(token) })
      const problem = await problemOf(response)
      expect(problem).toMatchObject({ code, status: 401 })
      expect(response.headers.get('access-control-allow-origin')).toBe('*')
      expect(JSON.stringify(problem)).not.toContain(token === 'nonsense' ? http.key : token)
    }
  })

  test('is not believed where the request is signed', async () => {
    const response = await http.signed('GET', run.path, undefined, { keys: [aKey()], headers: bearer('nonsense') })

    expect((await problemOf(response)).code).toBe('signature_invalid')
  })
})

describe('a page of another origin', () => {
  const PAGE = { origin: 'https://shop.example', 'sec-fetch-site': 'cross-site' }

  test('may ask for a stream, and for nothing else', async () => {
    const { path, id } = await aRun(http)
    const preflight = {
      ...PAGE,
      'access-control-request-method': 'GET',
      'access-control-request-headers': 'authorization',
    }

    const stream = await http.call('OPTIONS', path, undefined, { headers: preflight })
    const run = await http.call('OPTIONS', `/v1/runs/${id}`, undefined, { headers: preflight })

    expect(stream.status).toBe(204)
    expect(Object.fromEntries(stream.headers)).toMatchObject({
      'access-control-allow-origin': '*',
      'access-control-allow-methods': 'GET',
      'access-control-allow-headers': 'authorization, last-event-id',
    })
    expect(run.status).toBeGreaterThanOrEqual(400)
    expect(run.headers.get('access-control-allow-origin')).toBeNull()
  })

  test('reads the stream of a dev engine with a token', async () => {
    const { path, id } = await aRun(dev, MESSAGES, 'done')
    const token = await tokenOf(dev, id)

    const response = await dev.call('GET', path, undefined, { headers: { ...PAGE, ...bearer(token) } })

    expect(response.headers.get('access-control-allow-origin')).toBe('*')
    expect(eventsOf(await response.text())).toHaveLength(11)
  })

  test('reads nothing of a dev engine without one, or with a wrong one, or under a foreign name', async () => {
    const { path, id } = await aRun(dev, MESSAGES, 'done')
    const token = await tokenOf(dev, id)
    const get = async (headers: Record<string, string>) =>
      (await problemOf(await dev.call('GET', path, undefined, { headers }))).code

    expect(await get(PAGE)).toBe('origin_not_allowed')
    expect(await get({ ...PAGE, ...bearer('nonsense') })).toBe('stream_token_invalid')
    expect(await get({ ...bearer(token), host: 'evil.example' })).toBe('host_not_allowed')
  })

  test('is not told what an unsigned request of this machine is told', async () => {
    const { path } = await aRun(dev, MESSAGES, 'done')

    const response = await dev.call('GET', path)

    expect(response.headers.get('access-control-allow-origin')).toBeNull()
    expect(eventsOf(await response.text())).toHaveLength(11)
  })
})

test('the stream of a run that is not there is not found', async () => {
  const id = encodeId('run', newUuid() as RunId)

  const problem = await problemOf(await http.signed('GET', `/v1/runs/${id}/stream`))

  expect(problem).toMatchObject({ code: 'run_not_found', status: 404 })
})
