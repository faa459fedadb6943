/*
 * Several turns in one request, against an app on a real port that answers by hand.
 */
import type { ServerResponse } from 'node:http'
import { LIMITS } from '@stepwell/protocol'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { AppCall } from '../../src/call/app-call.ts'
import { createCallApp } from '../../src/call/call-app.ts'
import { waitUntil } from '../support/wait-until.ts'
import { type Batch, KEY, OTHER_KEY, reportOf, startTurnsApp, type TurnsApp } from './turns-app.ts'

const LONG_MS = 60_000

let app: TurnsApp
let caller: ReturnType<typeof createCallApp>

beforeEach(async () => {
  app = await startTurnsApp()
  caller = createCallApp({ turnsAtOnce: 512 })
})

afterEach(async () => {
  await caller.close()
  await app.close()
})

function send(run: string, given: Partial<AppCall> & { workspace?: string; paddingBytes?: number } = {}) {
  const { workspace = 'shop/dev', paddingBytes = 0, ...rest } = given
  const startedAtMs = performance.now()
  return caller.callApp({
    catalog: { name: workspace, keys: [KEY], url: app.url },
    kind: 'turn',
    turn: `${run} 1`,
    body: JSON.stringify({ kind: 'turn', workspace, run: { id: run }, padding: 'x'.repeat(paddingBytes) }),
    lastSignAtMs: () => startedAtMs,
    timeoutMs: LONG_MS,
    isOver: () => false,
    ...rest,
  })
}

/** The caller knows from an answer that the app takes turns together. */
async function learn(): Promise<void> {
  await send('first')
  app.received = []
}

/** Turns that came to the app in one request. */
async function sendTogether(...runs: string[]) {
  await learn()
  const sent = runs.map(run => send(run))
  return { sent, batch: await app.nextBatch() }
}

const aReport = (run: string) => ({ kind: 'report', report: { run, state: 'done' } })
const refused = (code: string) => ({ kind: 'no_answer', code })

describe('turns that are sent in one moment', () => {
  test('go each alone as long as the app has not said that it takes several', async () => {
    const outcomes = await Promise.all(['a', 'b'].map(run => send(run)))

    expect(outcomes).toMatchObject([aReport('a'), aReport('b')])
    expect(app.received.sort()).toEqual(['a', 'b'])
  })

  test('go in one request when an earlier answer has said so', async () => {
    const { sent, batch } = await sendTogether('a', 'b', 'c')

    batch.report('a', 'b', 'c')
    batch.response.end()

    expect(await Promise.all(sent)).toMatchObject([aReport('a'), aReport('b'), aReport('c')])
    expect(app.received).toEqual([['a', 'b', 'c']])
  })

  test('go each alone again when a later answer no longer says so', async () => {
    await learn()
    app.accepts = false
    await send('told')

    await Promise.all(['a', 'b'].map(run => send(run)))

    expect(app.received.sort()).toEqual(['a', 'b', 'told'])
  })

  test('go each alone again when the answer to several no longer says so', async () => {
    await learn()
    app.accepts = false
    const sent = [send('a'), send('b')]
    const batch = await app.nextBatch()
    batch.report('a', 'b')
    batch.response.end()
    await Promise.all(sent)

    await waitUntil('turns come alone', async () => {
      await Promise.all([send('c'), send('d')])
      return app.received.includes('c')
    })
  })

  test('go by workspace, when several share a URL', async () => {
    await learn()
    const sent = [send('a'), send('x', { workspace: 'shop/acc' }), send('b'), send('y', { workspace: 'shop/acc' })]
    const batches = [await app.nextBatch(), await app.nextBatch()]

    for (const batch of batches) batch.report(...batch.runs)

    await Promise.all(sent)
    expect(batches.map(({ workspace, runs }) => [workspace, runs]).sort()).toEqual([
      ['shop/acc', ['x', 'y']],
      ['shop/dev', ['a', 'b']],
    ])
  })

  test('and one in the next, go as several and as one', async () => {
    const { sent, batch } = await sendTogether('a', 'b')

    const next = await send('c')
    batch.report('a', 'b')
    await Promise.all(sent)

    expect(next).toMatchObject(aReport('c'))
    expect(app.received).toEqual([['a', 'b'], 'c'])
  })

  test('are at most 64 in a request', async () => {
    await learn()
    const runs = Array.from({ length: 150 }, (_, n) => `run${n}`)

    const sent = runs.map(run => send(run))
    const batches = [await app.nextBatch(), await app.nextBatch(), await app.nextBatch()]
    for (const batch of batches) batch.report(...batch.runs)

    expect(await Promise.all(sent)).toMatchObject(runs.map(aReport))
    expect(batches.map(batch => batch.runs.length).sort()).toEqual([22, 64, 64])
  })

  test('are at most half a mebibyte in a request, and one that is larger goes alone', async () => {
    await learn()

    const sent = [200_000, 200_000, 200_000, 1_000_000, 10, 10].map((paddingBytes, n) =>
      send(`run${n}`, { paddingBytes }),
    )
    const batches = [await app.nextBatch(), await app.nextBatch()]
    for (const batch of batches) batch.report(...batch.runs)

    await Promise.all(sent)
    expect(app.received.map(String).sort()).toEqual(['run0,run1', 'run2', 'run3', 'run4,run5'])
  })
})

describe('the answer to several turns', () => {
  test('ends each turn as soon as its report is there, while others are open', async () => {
    const { sent, batch } = await sendTogether('slow', 'quick')
    let isSlowOver = false
    sent[0]?.then(() => {
      isSlowOver = true
    })

    batch.report('quick')
    const quick = await sent[1]

    expect(quick).toMatchObject(aReport('quick'))
    expect(quick?.firstByteAtMs).toBeLessThanOrEqual(performance.now())
    expect(isSlowOver).toBe(false)
    batch.report('slow')
    expect(await sent[0]).toMatchObject(aReport('slow'))
  })

  test.each([1, 7, 1_000])('may be cut anywhere: into pieces of %i bytes', async size => {
    const { sent, batch } = await sendTogether('a', 'b', 'c')
    const bytes = Buffer.concat([
      batch.frame([reportOf('b', { ops: [{ op: 'finish', output: 'ü'.repeat(200) }] })]),
      batch.frame([]),
      batch.frame([reportOf('a'), reportOf('c')]),
    ])

    for (let at = 0; at < bytes.length; at += size) {
      await new Promise(resolve => batch.response.write(bytes.subarray(at, at + size), resolve))
    }

    expect(await Promise.all(sent)).toMatchObject([aReport('a'), aReport('b'), aReport('c')])
  })

  test('is not waited for to its end when each turn has been reported', async () => {
    const { sent, batch } = await sendTogether('a', 'b')

    batch.report('a', 'b')
    await Promise.all(sent)

    await waitUntil('the request is ended', () => batch.isClosed())
  })

  test('that ends with a turn unreported fails that one alone', async () => {
    const { sent, batch } = await sendTogether('a', 'b')

    batch.report('b')
    batch.response.end()

    expect(await Promise.all(sent)).toMatchObject([refused('app_closed'), aReport('b')])
  })

  test.each<[string, (batch: Batch) => unknown]>([
    ['between frames', () => {}],
    ['within a frame', batch => batch.response.write(batch.frame([reportOf('a')]).subarray(0, 50))],
  ])('that breaks off %s fails the turns that it has not reported', async (_what, writeMore) => {
    const { sent, batch } = await sendTogether('a', 'b', 'c')
    batch.report('b')
    await sent[1]

    writeMore(batch)
    batch.response.destroy()

    const [a, b, c] = await Promise.all(sent)
    expect([a, c]).toMatchObject([refused('app_closed'), refused('app_closed')])
    expect(b).toMatchObject(aReport('b'))
  })

  test('that never begins, as the connection is closed, fails them all', async () => {
    const { sent, batch } = await sendTogether('a', 'b')

    batch.response.destroy()

    expect(await Promise.all(sent)).toMatchObject([refused('app_closed'), refused('app_closed')])
  })

  test('tells a problem of one turn in its place, and the others go on', async () => {
    const { sent, batch } = await sendTogether('gone', 'stale', 'odd', 'a')
    const problem = (run: string, status: number, code: string) => ({
      kind: 'problem',
      run,
      epoch: '1',
      status,
      code,
      detail: `it is ${code}`,
    })

    batch.response.write(
      batch.frame([
        problem('gone', 404, 'function_not_found'),
        problem('stale', 409, 'stale_epoch'),
        { kind: 'problem', run: 'odd', epoch: '1', status: 'x', code: 7, detail: ['\u0000'] },
        reportOf('a'),
      ]),
    )

    const outcomes = await Promise.all(sent)
    expect(outcomes).toMatchObject([
      refused('app_functions_differ'),
      refused('app_status'),
      refused('app_status'),
      aReport('a'),
    ])
    expect(outcomes[1]).toMatchObject({ message: expect.stringContaining('409: it is stale_epoch') })
  })

  test('tells a malformed report in its place, and the others go on', async () => {
    const { sent, batch } = await sendTogether('bad', 'a')

    batch.response.write(batch.frame([reportOf('bad', { ops: [{ op: 'dance' }] }), reportOf('a')]))

    expect(await Promise.all(sent)).toMatchObject([refused('app_body_invalid'), aReport('a')])
  })

  test('may name turns that nobody has sent, and name one twice: the first counts', async () => {
    const { sent, batch } = await sendTogether('a', 'b')
    const reports = [
      reportOf('stranger'),
      reportOf('a', { epoch: '2' }),
      reportOf('b'),
      reportOf('b', { state: 'continue' }),
    ]

    batch.response.write(batch.frame([null, 7, [], {}, ...reports]))
    const b = await sent[1]
    batch.response.end(batch.frame([reportOf('b'), reportOf('a')]))

    expect(b).toMatchObject(aReport('b'))
    expect(await sent[0]).toMatchObject({ kind: 'report', report: { run: 'a', epoch: '1' } })
  })
})

describe('nothing is believed any more, but what came before is,', () => {
  test.each<[string, string, (batch: Batch) => Buffer]>([
    ['under another key', 'app_signature_invalid', batch => batch.frame([reportOf('a')], { key: OTHER_KEY })],
    [
      'that answers another request',
      'app_signature_invalid',
      batch => batch.frame([reportOf('a')], { id: 're_msg_x' }),
    ],
    ['that is no JSON', 'app_body_invalid', batch => batch.frame('{"kind":"reports","reports":[')],
    ['that is no list of reports', 'app_body_invalid', batch => batch.frame('{"kind":"reports","reports":{}}')],
    ['that is null', 'app_body_invalid', batch => batch.frame('null')],
    ['that nests too deep', 'app_body_invalid', batch => batch.frame('['.repeat(5_000))],
  ])('after a frame %s: %s', async (_what, code, frame) => {
    const { sent, batch } = await sendTogether('a', 'b', 'c')
    batch.report('c')
    await sent[2]

    batch.response.write(Buffer.concat([frame(batch), batch.frame([reportOf('a'), reportOf('b')])]))

    const outcomes = await Promise.all(sent)
    expect(outcomes).toMatchObject([refused(code), refused(code), aReport('c')])
    expect(outcomes[0]).toMatchObject({ message: expect.not.stringContaining('no frame') })
    await waitUntil('the request is ended', () => batch.isClosed())
  })

  test.each<[string, string | Buffer]>([
    ['a page', '<html><body>Welcome</body></html>'],
    ['a report as to one turn', JSON.stringify(reportOf('a'))],
    ['a frame without a first line', Buffer.from([0, 0, 0, 3, 65, 66, 67])],
    ['a frame over the limit', Buffer.from([255, 255, 255, 255])],
  ])('after %s, and the request is ended', async (_what, bytes) => {
    const { sent, batch } = await sendTogether('a', 'b', 'c')
    batch.report('c')
    await sent[2]

    batch.response.write(bytes)

    const outcomes = await Promise.all(sent)
    expect(outcomes).toMatchObject([refused('app_body_invalid'), refused('app_body_invalid'), aReport('c')])
    expect(outcomes[0]).toMatchObject({ message: expect.stringContaining(`App at ${app.url} answered`) })
    await waitUntil('the request is ended', () => batch.isClosed())
  })
})

describe('an answer of another status is that to each turn:', () => {
  const status = (code: number, headers: Record<string, string>, body: string) => (response: ServerResponse) =>
    void response.writeHead(code, headers).end(body)

  test.each<[string, string, (response: ServerResponse) => void]>([
    ['401', 'app_signature_invalid', status(401, {}, '{"code":"signature_invalid","detail":"no"}')],
    ['404', 'app_status', status(404, {}, 'Cannot POST /api/stepwell')],
    ['500', 'app_status', status(500, {}, '<html>oops</html>')],
    ['302', 'app_redirected', status(302, { location: 'https://elsewhere.example' }, '')],
    [
      '500 without an end',
      'app_body_too_large',
      response => void response.writeHead(500).write('x'.repeat(LIMITS.bodyBytes + 1)),
    ],
  ])('%s', async (_what, code, refuses) => {
    await learn()
    app.refuses = refuses

    const outcomes = await Promise.all(['a', 'b'].map(run => send(run)))

    expect(outcomes).toMatchObject([refused(code), refused(code)])
    expect(app.received).toEqual([['a', 'b']])
  })

  test('nobody is there', async () => {
    await learn()
    await app.close()

    const outcomes = await Promise.all(['a', 'b'].map(run => send(run)))

    expect(outcomes).toMatchObject([refused('app_unreachable'), refused('app_unreachable')])
  })
})

describe.each<[string, number, string]>([
  ['does not know several turns any more', 400, '{"code": "kind_unknown", "detail": "no", "kinds": ["turn"]}'],
  ['is behind a proxy that lets less through', 413, '<html>Request Entity Too Large</html>'],
])('an app that %s', (_what, status, body) => {
  beforeEach(async () => {
    await learn()
    app.refuses = response => void response.writeHead(status).end(body)
  })
  afterEach(() => void vi.useRealTimers())

  test('gets each alone at once, and is not asked again', async () => {
    let open = () => {}
    app.gate = new Promise<void>(resolve => {
      open = resolve
    })

    const first = ['a', 'b'].map(run => send(run))
    await waitUntil('they come alone', () => app.received.length === 3)
    const second = ['c', 'd'].map(run => send(run))
    await waitUntil('these do, too', () => app.received.length === 5)
    open()
    const outcomes = await Promise.all([...first, ...second])
    await Promise.all([send('e'), send('f')])

    expect(outcomes).toMatchObject(['a', 'b', 'c', 'd'].map(aReport))
    expect(app.received.map(String).sort()).toEqual(['a', 'a,b', 'b', 'c', 'd', 'e', 'f'])
  })

  test('gets several again when it says so after a minute', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    await Promise.all([send('a'), send('b')])
    app.refuses = null

    vi.advanceTimersByTime(60_000)
    const { sent, batch } = await sendTogether('c', 'd')
    batch.report('c', 'd')

    expect(await Promise.all(sent)).toMatchObject([aReport('c'), aReport('d')])
  })
})

describe('a turn of several', () => {
  test('without a sign of life fails alone, and the others go on', async () => {
    await learn()
    const silent = send('silent', { timeoutMs: 1 })
    const other = send('other')
    const batch = await app.nextBatch()

    const outcome = await silent
    batch.report('silent', 'other')

    expect(outcome).toMatchObject(refused('app_timeout'))
    expect(await other).toMatchObject(aReport('other'))
  })

  test('that shows life between is waited for', async () => {
    await learn()
    const silent = send('silent', { timeoutMs: 1 })
    const lively = send('lively', { timeoutMs: 1, lastSignAtMs: () => performance.now() })
    const batch = await app.nextBatch()

    await silent
    batch.report('lively')

    expect(await lively).toMatchObject(aReport('lively'))
  })

  test('that nobody waits for any more is given up, and the others go on', async () => {
    await learn()
    const over = send('over', { isOver: () => true })
    const other = send('other')
    const batch = await app.nextBatch()

    const outcome = await over
    batch.report('other')

    expect(outcome.kind).toBe('no_answer')
    expect(await other).toMatchObject(aReport('other'))
  })

  test('that is the last open one takes the request with it', async () => {
    await learn()
    let isOver = false
    const sent = [send('a', { isOver: () => isOver }), send('b', { isOver: () => isOver })]
    const batch = await app.nextBatch()

    isOver = true
    await Promise.all(sent)

    await waitUntil('the request is ended', () => batch.isClosed())
  })
})

test('a caller that closes waits for no turn, neither for those under way nor for those just sent', async () => {
  const { sent, batch } = await sendTogether('a', 'b', 'c')
  batch.report('c')
  await sent[2]

  const late = [send('d'), send('e')]
  await caller.close()

  expect(await Promise.all([...sent.slice(0, 2), ...late])).toMatchObject(
    Array.from({ length: 4 }, () => ({ kind: 'no_answer' })),
  )
})
