/*
 * Requests that wait for a run's end, on an engine that works.
 */
import { encodeId } from '@stepwell/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runView, sentView } from '../../src/http/views.ts'
import { ensureWorkspace } from '../../src/store/workspaces.ts'
import { aKey, problemOf, useHttp } from './harness.ts'
import { type HeldTurn, startTurnApp, type TurnApp } from './turn-app.ts'

const http = useHttp('start')
const otherKey = aKey()
let app: TurnApp

beforeAll(async () => {
  app = await startTurnApp({ key: http.key, functions: { work: 'work.asked' } })
  await http.serve({ work: 'work.asked' }, app.url)
  await ensureWorkspace(http.sql, 'other/prod', otherKey)
  await http.engine.start()
})

afterAll(() => app.close())

async function startTurn(): Promise<{ held: HeldTurn; run: string }> {
  await http.signed('POST', '/v1/events', { name: 'work.asked' })
  const held = await app.nextTurn()
  return { held, run: held.turn.run.id }
}

async function readRun(response: Response) {
  expect(response.status).toBe(200)
  return runView.parse(await response.json())
}

const get = (path: string) => http.signed('GET', path)

describe('GET /v1/runs/{id}?wait', () => {
  test('answers when the run has ended, with what it is from then on', async () => {
    const { held, run } = await startTurn()
    const waiting = get(`/v1/runs/${run}?wait=20s`)

    const steps = ['a', 'b'].map(key => ({ op: 'step' as const, key, saw: 1, attempt: 1 }))
    held.respond('done', [...steps, { op: 'finish', output: { a: ['ü', null] } }])
    const ended = await readRun(await waiting)

    expect(ended).toMatchObject({ state: 'completed', output: { a: ['ü', null] }, error: null, attempts: 2 })
    expect(await readRun(await get(`/v1/runs/${run}`))).toEqual(ended)
  })

  test('tells a failed run as it is from then on', async () => {
    const { held, run } = await startTurn()
    const waiting = get(`/v1/runs/${run}?wait=20s`)

    held.respond('done', [{ op: 'fail', error: { name: 'Error', message: 'no "money"' } }])
    const ended = await readRun(await waiting)

    expect(ended).toMatchObject({ state: 'failed', error: { message: 'no "money"' } })
    expect(await readRun(await get(`/v1/runs/${run}`))).toEqual(ended)
  })

  test('answers with the run as it is when the time is up', async () => {
    const { held, run } = await startTurn()

    const views = [
      await readRun(await get(`/v1/runs/${run}?wait=0s`)),
      await readRun(await get(`/v1/runs/${run}?wait=30ms`)),
    ]

    expect(views.map(view => view.state)).toEqual(['running', 'running'])
    held.respond('done', [{ op: 'finish' }])
    await get(`/v1/runs/${run}?wait=20s`)
  })

  test.each(['abc', '', '-1s', '61s', '2h', '1e3', '20', 'P1M'])('of %j is refused', async wait => {
    const response = await get(`/v1/runs/${encodeId('run', '01890a5d-ac96-774b-bcce-b302099a8057')}?wait=${wait}`)

    expect(response.status).toBe(400)
    expect(await problemOf(response)).toMatchObject({ code: 'query_invalid', errors: [{ path: 'wait' }] })
  })

  test('twice is refused', async () => {
    const response = await get('/v1/runs/run_x?wait=1s&wait=2s')

    expect((await problemOf(response)).code).toBe('query_invalid')
  })

  test.each(['run_01m7wfht8ge82r73aq1n8pj7ng', 'run_x'])(
    'for %s, which is not there, answers 404 at once',
    async id => {
      const response = await get(`/v1/runs/${id}?wait=60s`)

      expect(response.status).toBe(404)
      expect((await problemOf(response)).code).toBe('run_not_found')
    },
  )

  test('for a run of another workspace answers 404 at once', async () => {
    const { held, run } = await startTurn()

    const response = await http.signed('GET', `/v1/runs/${run}?wait=60s`, undefined, {
      workspace: 'other/prod',
      keys: [otherKey],
    })

    expect(response.status).toBe(404)
    held.respond('done', [{ op: 'finish' }])
    await get(`/v1/runs/${run}?wait=20s`)
  })
})

describe('POST /v1/events?wait', () => {
  test('tells an event that was accepted before as what it started then', async () => {
    const first = http.signed('POST', '/v1/events?wait=20s', { name: 'work.asked', id: 'twice' })
    const held = await app.nextTurn()

    const [known] = await Promise.all([
      http.signed('POST', '/v1/events?wait=20s', { name: 'work.asked', id: 'twice' }),
      held.respond('done', [{ op: 'finish', output: 8 }]),
    ])

    const [one, two] = [await (await first).json(), await known.json()].map(json => sentView.parse(json))
    expect(two).toEqual(one)
    expect(one?.events).toMatchObject([{ id: 'twice', ended: [{ id: held.turn.run.id, output: 8 }] }])
  })

  test('answers with the runs as they ended', async () => {
    const waiting = http.signed('POST', '/v1/events?wait=20s', [{ name: 'work.asked' }, { name: 'nobody.cares' }])
    const held = await app.nextTurn()

    held.respond('done', [{ op: 'finish', output: 7 }])
    const response = await waiting

    expect(response.status).toBe(202)
    const { events } = sentView.parse(await response.json())
    expect(events).toMatchObject([{ ended: [{ state: 'completed', output: 7 }] }, { ended: [] }])
    expect(events[0]?.runs).toEqual([held.turn.run.id])
  })

  test('waits for the first hundred runs only, and starts all of them', async () => {
    const events = Array.from({ length: 101 }, () => ({ name: 'work.asked' }))

    const response = await http.signed('POST', '/v1/events?wait=1ms', { events })
    const sent = sentView.parse(await response.json()).events
    for (const _ of events) (await app.nextTurn()).respond('done', [{ op: 'finish' }])

    expect(sent.flatMap(event => event.runs)).toHaveLength(101)
    expect(sent.flatMap(event => event.ended ?? [])).toHaveLength(100)
    const last = await readRun(await get(`/v1/runs/${sent.at(-1)?.runs[0]}?wait=20s`))
    expect(last.state).toBe('completed')
  })

  test('that is malformed stores nothing', async () => {
    const before = await http.stored()

    const response = await http.signed('POST', '/v1/events?wait=1y', { name: 'work.asked' })

    expect((await problemOf(response)).code).toBe('query_invalid')
    expect(await http.stored()).toEqual(before)
  })
})

test('a run that starts at once gets the journal that a claim would read', async () => {
  const event = {
    id: 'own "1" ü',
    name: 'work.asked',
    data: { 'a "b"': [1, 'ü\u2028'] },
    ts: '2026-01-31T12:00:00+01:00',
  }

  await http.signed('POST', '/v1/events', event)
  const held = await app.nextTurn()

  const [row] = await http.sql<{ at: Date; data: string }[]>`
    select at, data from stepwell.journal where seq = 1 order by at desc limit 1`
  expect(held.turn).toMatchObject({ turn: 1, run: { generation: 1 } })
  expect(held.turn.journal).toEqual([
    { seq: 1, turn: 1, at: row?.at.toISOString(), type: 'run_started', data: JSON.parse(row?.data ?? '') },
  ])
  expect(held.turn.journal[0]).toMatchObject({ data: event })
  held.respond('done', [{ op: 'finish' }])
})
