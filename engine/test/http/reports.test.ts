import type { Report, StepOp } from '@stepwell/protocol'
import { ackBatchSchema } from '@stepwell/protocol/schemas'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { waitUntil } from '../support/wait-until.ts'
import { problemOf, useHttp } from './harness.ts'
import { type HeldTurn, startTurnApp, type TurnApp } from './turn-app.ts'

const http = useHttp('start')
let app: TurnApp

beforeAll(async () => {
  app = await startTurnApp({ key: http.key, functions: { work: 'work.asked' } })
  await http.serve({ work: 'work.asked' }, app.url)
  await http.engine.start()
})

afterAll(() => app.close())

const step = (key: string): StepOp => ({ op: 'step', key, saw: 1, attempt: 1, output: { key } })

async function startTurn(): Promise<HeldTurn> {
  await http.signed('POST', '/v1/events', { name: 'work.asked' })
  return app.nextTurn()
}

/** Ends turns well, and waits until that is written: what a test stores is not mixed with what the one before it stores. */
async function finish(...turns: HeldTurn[]): Promise<void> {
  for (const held of turns) held.respond('done', [{ op: 'finish' }])
  await waitUntil('no run is live', async () => (await http.stored()).runs === 0)
}

const post = (reports: unknown, workspace = http.workspace) =>
  http.signed('POST', '/v1/reports', { kind: 'reports', workspace, reports })

describe('reports', () => {
  test('are acknowledged after the commit, with what was recorded', async () => {
    const held = await startTurn()
    const before = await http.stored()

    const response = await post([held.report('running', [step('one')])])

    expect(response.status).toBe(200)
    const { acks } = ackBatchSchema.parse(await response.json())
    expect(acks).toMatchObject([{ status: 200, n: 1, entries: [{ type: 'step_completed', key: 'one', seq: 2 }] }])
    expect((await http.stored()).journal).toBe((before.journal ?? 0) + 1)
    await finish(held)
  })

  test('of several turns travel together, and each is answered in its place', async () => {
    const [one, two] = [await startTurn(), await startTurn()]
    const stranger = { ...one.report('running', [step('one')]), epoch: '1' }

    const response = await post([stranger, two.report('running', [step('one')])])

    // 200 as soon as any report was taken.
    expect(response.status).toBe(200)
    const { acks } = ackBatchSchema.parse(await response.json())
    expect(acks.map(ack => ack.status)).toEqual([409, 200])
    expect(acks[0]).toMatchObject({ code: 'stale_epoch', run: one.turn.run.id })
    await finish(one, two)
  })

  test.each<[string, number, (report: Report) => Report]>([
    ['an epoch that is over', 409, report => ({ ...report, epoch: '12345' })],
    ['an epoch that is no number', 409, report => ({ ...report, epoch: 'x' })],
    ['a run that is not there', 409, report => ({ ...report, run: 'run_01m7wfht8ge82r73aq1n8pj7ng' })],
    ['an id that is none', 409, report => ({ ...report, run: 'x' })],
    ['a number that does not follow', 422, report => ({ ...report, n: 7 })],
    ['another turn', 422, report => ({ ...report, turn: 7 })],
  ])('with %s are refused with status %i of the batch, and write nothing', async (_what, status, change) => {
    const held = await startTurn()
    const before = await http.stored()

    const response = await post([change(held.report('running', [step('one')]))])

    expect(response.status).toBe(status)
    expect(ackBatchSchema.parse(await response.json()).acks).toMatchObject([{ status }])
    expect(await http.stored()).toEqual(before)
    await finish(held)
  })

  test.each<[string, unknown, string]>([
    ['no list', { n: 1 }, 'reports'],
    ['an empty list', [], 'reports'],
    ['a report without ops', [{ kind: 'report' }], 'reports[0].run'],
    ['a number that is none', [{ n: '1' }], 'reports[0].kind'],
  ])('that are malformed (%s) are refused with the path', async (_what, reports, path) => {
    const before = await http.stored()

    const response = await post(reports)

    expect(response.status).toBe(400)
    const problem = await problemOf(response)
    expect(problem.code).toBe('body_invalid')
    expect(problem.errors?.[0]?.path).toBe(path)
    expect(await http.stored()).toEqual(before)
  })

  test('about another workspace than the header names are refused', async () => {
    const held = await startTurn()
    const before = await http.stored()

    const response = await post([held.report('running', [step('one')])], 'other/prod')

    expect(response.status).toBe(401)
    expect((await problemOf(response)).code).toBe('signature_invalid')
    expect(await http.stored()).toEqual(before)
    await finish(held)
  })
})
