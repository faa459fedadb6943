/** Several turns in one request (SPEC.md 3.1), through both adapters. */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { FrameReader, LIMITS, type Report, responseId, signHeaders } from '@stepwell/protocol'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { type Endpoint, serve } from '../src/index.ts'
import { executeBatch } from '../src/turn-batch.ts'
import { KEY, WORKSPACE } from './engine-double.ts'
import { aFunction, anApp, anEngine, aSignal, type Handler } from './harness.ts'
import { AT, aRequest, aTurn, DESCRIBE, problemOf } from './requests.ts'
import { checkSigned } from './signed.ts'

interface Problem {
  kind: 'problem'
  run: string | null
  status: number
  code: string
  detail: string
}
type Item = (Report & { code?: undefined }) | Problem

const servers: http.Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

type Post = (endpoint: Endpoint, request: Request) => Promise<Response>

const viaFetch: Post = (endpoint, request) => endpoint(request)

const viaNode: Post = async (endpoint, request) => {
  const server = http.createServer(endpoint)
  servers.push(server)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return fetch(`http://127.0.0.1:${port}/api/stepwell`, {
    method: 'POST',
    headers: request.headers,
    body: await request.text(),
  })
}

/** A turn of a run of its own; its event says what the handler should do. */
function aTurnOf(run: string, given: object = {}): object {
  const event = { id: 'e', name: 'n', data: { run }, ts: AT }
  const journal = [{ seq: 1, turn: 1, at: AT, type: 'run_started', data: event }]
  return aTurn({ run: { id: run, generation: 1 }, epoch: `epoch of ${run}`, budgetMs: 60_000, journal, ...given })
}

function aBatch(turns: unknown, given: object = {}, headers: Record<string, string> = {}): Request {
  return aRequest(JSON.stringify({ kind: 'turns', workspace: WORKSPACE, turns, ...given }), { headers })
}

/** The frames of an answer as they come, each verified as the answer to this request. */
async function* framesOf(request: Request, response: Response): AsyncGenerator<Item[]> {
  const id = responseId(request.headers.get('webhook-id') ?? '')
  const reader = new FrameReader()
  for await (const chunk of response.body ?? []) {
    for (const { headers, body } of reader.read(Buffer.from(chunk))) {
      const signed = {
        'webhook-id': headers.id ?? '',
        'webhook-timestamp': headers.timestamp ?? '',
        'webhook-signature': headers.signature ?? '',
      }
      checkSigned(signed, body, { key: KEY, id })
      const { kind, workspace, reports } = JSON.parse(body.toString())
      expect({ kind, workspace }).toEqual({ kind: 'reports', workspace: WORKSPACE })
      yield reports
    }
  }
}

async function readAll(request: Request, response: Response): Promise<Item[][]> {
  const frames: Item[][] = []
  for await (const frame of framesOf(request, response)) frames.push(frame)
  return frames
}

/** Ends each run when the test says so. */
function aGatedApp(...runs: string[]) {
  const gates = new Map(runs.map(run => [run, aSignal()]))
  const started: string[] = []
  const ended: string[] = []
  const handler: Handler = async ({ event }) => {
    const { run } = event.data as { run: string }
    started.push(run)
    await gates.get(run)?.promise
    ended.push(run)
    return run
  }
  return { app: anApp(handler), started, ended, open: (run: string) => gates.get(run)?.resolve() }
}

const runsOf = (items: Item[] | undefined) => items?.map(({ run }) => run)

describe.each<[string, Post]>([
  ['fetch', viaFetch],
  ['node:http', viaNode],
])('several turns in one request of %s', (_name, post) => {
  test('are answered as each ends, the slow one last', async () => {
    const { app, open } = aGatedApp('slow', 'slower')
    const request = aBatch(['slower', 'quick', 'slow'].map(run => aTurnOf(run)))
    const response = await post(app, request.clone() as Request)
    const frames = framesOf(request, response)

    const first = await frames.next()
    open('slow')
    const second = await frames.next()
    open('slower')
    const third = await frames.next()

    expect([first, second, third].map(({ value }) => runsOf(value))).toEqual([['quick'], ['slow'], ['slower']])
    expect(first.value?.[0]).toMatchObject({
      epoch: 'epoch of quick',
      n: 1,
      state: 'done',
      ops: [{ op: 'finish', output: 'quick' }],
    })
    expect((await frames.next()).done).toBe(true)
  })

  test('share a frame when they end together', async () => {
    const { app, open, started } = aGatedApp('a', 'b', 'c')
    const request = aBatch(['a', 'b', 'c'].map(run => aTurnOf(run)))
    const answering = post(app, request.clone() as Request)
    await vi.waitFor(() => expect(started).toHaveLength(3))

    open('c')
    open('a')
    const frames = framesOf(request, await answering)
    const first = await frames.next()
    open('b')

    expect(runsOf(first.value)?.sort()).toEqual(['a', 'c'])
    expect(runsOf((await frames.next()).value)).toEqual(['b'])
  })

  test('have their problems told in their places', async () => {
    const request = aBatch([
      aTurnOf('unknown', { function: 'gone' }),
      aTurnOf('malformed', { journal: [] }),
      aTurnOf('elsewhere', { workspace: 'other/prod' }),
      { run: 'no run' },
      aTurnOf('well'),
    ])

    const response = await post(
      anApp(() => 1),
      request.clone() as Request,
    )

    const items = (await readAll(request, response)).flat()
    expect(items.map(({ kind, run, code }) => [kind, run, code])).toEqual(
      expect.arrayContaining([
        ['problem', 'unknown', 'function_not_found'],
        ['problem', 'malformed', 'body_invalid'],
        ['problem', 'elsewhere', 'body_invalid'],
        ['problem', null, 'body_invalid'],
        ['report', 'well', undefined],
      ]),
    )
    expect(items.find(({ run }) => run === 'unknown')).toMatchObject({
      epoch: 'epoch of unknown',
      status: 404,
      detail: expect.stringContaining('"gone"'),
    })
  })

  test.each<[string, object]>([
    ['without turns', { turns: undefined }],
    ['with turns that are no list', { turns: {} }],
    ['with a turn that is none', { turns: [aTurnOf('a'), null] }],
    ['with a list in a turn’s place', { turns: [[]] }],
    ['without a workspace', { workspace: undefined }],
  ])('%s are refused as a whole', async (_what, given) => {
    const ran: unknown[] = []

    const response = await post(
      anApp(() => ran.push(1)),
      aBatch([aTurnOf('a')], given),
    )

    expect(await problemOf(response)).toMatchObject({ status: 400, code: 'body_invalid' })
    expect(ran).toEqual([])
  })

  test('are refused when the header names another workspace', async () => {
    const ran: unknown[] = []
    const request = aBatch([aTurnOf('a')], {}, { 'stepwell-workspace': 'other/prod' })

    const response = await post(
      anApp(() => ran.push(1)),
      request,
    )

    expect(await problemOf(response)).toMatchObject({ status: 401, code: 'signature_invalid' })
    expect(ran).toEqual([])
  })

  test('run to their end when the engine hangs up, and the next are answered', async () => {
    const { app, open, ended } = aGatedApp('left', 'slow')
    const request = aBatch(['left', 'quick', 'slow'].map(run => aTurnOf(run)))
    const response = await post(app, request)
    const reader = response.body?.getReader()
    await reader?.read()

    await reader?.cancel()
    open('left')
    open('slow')
    await vi.waitFor(() => expect(ended.sort()).toEqual(['left', 'quick', 'slow']))
    const next = aBatch([aTurnOf('next')])
    const answer = await post(app, next.clone() as Request)

    expect(runsOf((await readAll(next, answer)).flat())).toEqual(['next'])
  })

  test('are welcome, as an answer to a request that came straight here says', async () => {
    const app = anApp(() => 1)

    const requests = [aRequest(DESCRIBE), aRequest(JSON.stringify(aTurnOf('a'))), aBatch([aTurnOf('b')])]
    const answers = await Promise.all(requests.map(request => post(app, request)))

    expect(answers.map(({ headers }) => headers.get('stepwell-accepts'))).toEqual(['turns', 'turns', 'turns'])
  })

  test.each(['via', 'forwarded', 'x-forwarded-for', 'x-real-ip'])(
    'are not asked for behind a proxy that adds %s, and are taken all the same',
    async name => {
      const app = anApp(() => 1)
      const headers = { [name]: 'a proxy' }
      const request = aBatch([aTurnOf('a')], {}, headers)

      const alone = await post(app, aRequest(JSON.stringify(aTurnOf('b')), { headers }))
      const together = await post(app, request.clone() as Request)

      expect(alone.status).toBe(200)
      expect(alone.headers.get('stepwell-accepts')).toBeNull()
      expect(together.headers.get('stepwell-accepts')).toBeNull()
      expect(runsOf((await readAll(request, together)).flat())).toEqual(['a'])
    },
  )
})

test('steps of several turns are recorded while the turns run', async () => {
  const app = anApp(async ({ event, step }) => {
    const one = await step.run('one', () => event.id)
    return step.run('two', () => `${one} two`)
  })
  const engine = await anEngine(() => 1)
  const runs = [engine.start('fn'), engine.start('fn')]
  const turns = runs.map(run => {
    run.epoch = `epoch of ${run.id}`
    return aTurnOf(run.id, { journal: run.journal.slice(), reportUrl: `${engine.url}/reports` })
  })
  const request = aBatch(turns)

  const items = (await readAll(request, await app(request.clone() as Request))).flat()

  expect(items.map(item => [item.run, 'ops' in item && item.ops]).sort()).toEqual([
    ['run_1', [{ op: 'finish', output: 'evt_1 two' }]],
    ['run_2', [{ op: 'finish', output: 'evt_2 two' }]],
  ])
  for (const run of runs) expect(run.types()).toEqual(['run_started', 'step_completed', 'step_completed'])
})

test('a turn of several whose run another holder has is told as stale, and the others go on', async () => {
  const engine = await anEngine(() => 1)
  const request = aBatch([
    aTurnOf('nobody knows', { reportUrl: `${engine.url}/reports` }),
    aTurnOf('quick', { function: 'quick' }),
  ])
  const functions = [aFunction(({ step }) => step.run('a', () => 1)), aFunction(() => 2, { id: 'quick' })]
  const app = serve(functions, { signingKey: KEY })

  const items = (await readAll(request, await app(request.clone() as Request))).flat()

  expect(items).toMatchObject([
    { kind: 'report', run: 'quick' },
    { kind: 'problem', run: 'nobody knows', epoch: 'epoch of nobody knows', status: 409, code: 'stale_epoch' },
  ])
})

describe('the frames of an answer', () => {
  const sign = (payload: string) => signHeaders({ id: 're_x', nowMs: Date.now(), payload, secrets: [KEY] })

  async function framesFor(texts: string[]): Promise<{ sizeBytes: number; reports: string[] }[]> {
    const reader = new FrameReader()
    const frames: { sizeBytes: number; reports: string[] }[] = []
    const bytes = executeBatch({
      turns: texts,
      workspace: 'a "b"/ü',
      execute: async text => JSON.stringify(text),
      sign,
    })
    for await (const chunk of bytes)
      for (const { body } of reader.read(chunk)) {
        const { workspace, reports } = JSON.parse(body.toString())
        expect(workspace).toBe('a "b"/ü')
        frames.push({ sizeBytes: body.length, reports })
      }
    return frames
  }

  test('are as many as it takes to keep each within the limit of a body', async () => {
    const texts = Array.from({ length: 9 }, (_, n) => `${n}${'ü'.repeat(500_000)}`)

    const frames = await framesFor(texts)

    expect(frames.map(({ reports }) => reports.length)).toEqual([4, 4, 1])
    for (const { sizeBytes } of frames) expect(sizeBytes).toBeLessThanOrEqual(LIMITS.bodyBytes)
    expect(frames.flatMap(({ reports }) => reports)).toEqual(texts)
  })

  test('hold one that is as large as a body alone', async () => {
    const large = 'x'.repeat(LIMITS.bodyBytes - 1_000)

    const frames = await framesFor([large, large, 'small'])

    expect(frames.map(({ reports }) => reports.length)).toEqual([1, 1, 1])
  })

  test('are none for no turns', async () => {
    expect(await framesFor([])).toEqual([])
  })
})
