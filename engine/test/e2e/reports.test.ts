/*
 * Reports by hand: an app that speaks the protocol without the SDK.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  type AckBatch,
  HEADERS,
  newMessageId,
  type Op,
  PROTOCOL_VERSION,
  type Report,
  responseId,
  signHeaders,
  type Turn,
  verify,
} from '@stepwell/protocol'
import { turnSchema } from '@stepwell/protocol/schemas'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type ListeningServer, listen, readBody } from '../support/app-server.ts'
import { startSystem, type TestSystem } from '../support/system.ts'
import { waitUntil } from '../support/wait-until.ts'

interface OpenTurn {
  turn: Turn
  /** Answers the turn's request. */
  respond(report: Partial<Report>): void
  respondText(text: string): void
  isClosed(): boolean
}

let system: TestSystem
let app: ListeningServer
let turns: OpenTurn[] = []

beforeAll(async () => {
  system = await startSystem({ turnTimeoutMs: 60_000 })
  app = await listen(takeRequest)
  await system.client.sync([], { url: app.url })
})
afterAll(async () => {
  await app.close()
  await system.stop()
})
afterEach(async () => {
  turns = []
  expect(await system.brokenInvariants()).toEqual([])
})

async function takeRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = JSON.parse((await readBody(request)).toString()) as Turn | { kind: 'describe' }
  const answer = (text: string) => {
    const id = responseId(String(request.headers[HEADERS.id]))
    response
      .writeHead(200, { ...signHeaders({ id, nowMs: Date.now(), payload: text, secrets: [system.signingKey] }) })
      .end(text)
  }
  if (body.kind === 'describe')
    return answer(
      JSON.stringify({
        kind: 'description',
        sdk: 'hand/1',
        functions: [{ id: 'hand', triggers: [{ event: 'hand' }] }],
      }),
    )
  // What this engine sends is what the protocol says.
  expect(turnSchema.safeParse(body).error).toBeUndefined()
  turns.push({
    turn: body,
    respond: report => answer(JSON.stringify(reportFor(body, report))),
    respondText: answer,
    isClosed: () => response.destroyed,
  })
}

function reportFor(turn: Turn, given: Partial<Report> = {}): Report {
  return {
    kind: 'report',
    run: turn.run.id,
    generation: turn.run.generation,
    turn: turn.turn,
    epoch: turn.epoch,
    n: 1,
    state: 'running',
    ops: [],
    ...given,
  }
}

function aStep(key: string, given: object = {}): Op {
  return { op: 'step', key, saw: 1, attempt: 1, output: key, ...given }
}

/** Posts reports; says the status, the acks, and whether the answer was signed for this request. */
async function post(reports: Report[]): Promise<{ status: number; acks: AckBatch['acks']; isSigned: boolean }> {
  const body = JSON.stringify({ kind: 'reports', workspace: 'default/test', reports })
  const id = newMessageId()
  const response = await fetch(reports.length === 0 ? '' : `${system.front.url}/v1/reports`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      [HEADERS.version]: PROTOCOL_VERSION,
      [HEADERS.workspace]: 'default/test',
      ...signHeaders({ id, nowMs: Date.now(), payload: body, secrets: [system.signingKey] }),
    },
  })
  const text = await response.text()
  const of = (name: string) => response.headers.get(name)
  const verified = verify({
    headers: { id: of(HEADERS.id), timestamp: of(HEADERS.timestamp), signature: of(HEADERS.signature) },
    payload: text,
    secrets: [system.signingKey],
    nowMs: Date.now(),
  })
  return {
    status: response.status,
    acks: (JSON.parse(text) as AckBatch).acks,
    isSigned: verified.ok && verified.id === responseId(id),
  }
}

async function startTurn(): Promise<{ run: string; open: OpenTurn }> {
  const [sent] = await system.client.send({ name: 'hand' })
  const run = sent?.runs[0] ?? ''
  return { run, open: await nextTurn(run) }
}

async function nextTurn(run: string): Promise<OpenTurn> {
  const find = () => turns.find(open => open.turn.run.id === run && !taken.has(open))
  await waitUntil(`a turn of ${run}`, () => find() !== undefined)
  const open = find() as OpenTurn
  taken.add(open)
  return open
}
const taken = new WeakSet<OpenTurn>()

test('a report is acknowledged with its entries, signed, and recorded before that', async () => {
  const { run, open } = await startTurn()

  const { status, acks, isSigned } = await post([reportFor(open.turn, { ops: [aStep('charge')] })])

  expect({ status, isSigned }).toEqual({ status: 200, isSigned: true })
  expect(acks).toMatchObject([
    { run, n: 1, status: 200, entries: [{ seq: 2, turn: 1, type: 'step_completed', key: 'charge', saw: 1 }] },
  ])
  // the sender has the output
  expect(acks[0]).not.toHaveProperty('entries.0.data')
  expect((await system.journal(run))[1]).toMatchObject({ key: 'charge', data: 'charge' })
  open.respond({ n: 2, state: 'done', ops: [{ op: 'finish' }] })
  await system.waitForState(run, 'completed')
})

test('a report that is delivered twice is applied once and answered the same', async () => {
  const { run, open } = await startTurn()
  const report = reportFor(open.turn, {
    ops: [
      aStep('charge', {
        error: { name: 'Error', message: 'x' },
        output: undefined,
        retry: { maxAttempts: 9, minDelayMs: 60_000, maxDelayMs: 60_000 },
      }),
    ],
  })

  const both = await Promise.all([post([report]), post([report])])
  const third = await post([report])

  expect(both[0]).toEqual(both[1])
  expect(third).toEqual(both[0])
  expect((await system.journal(run)).map(entry => entry.type)).toEqual(['run_started', 'step_retrying'])
  open.respond({ n: 2, state: 'done', ops: [{ op: 'finish' }] })
  await system.waitForState(run, 'completed')
})

test('a stale report gets 409 and writes nothing', async () => {
  const { run, open } = await startTurn()
  open.respond({ state: 'continue' })
  const second = await nextTurn(run)

  const { status, acks } = await post([reportFor(open.turn, { n: 2, ops: [aStep('late')] })])

  expect(status).toBe(409)
  expect(acks).toMatchObject([{ run, status: 409, code: 'stale_epoch' }])
  expect((await system.journal(run)).map(entry => entry.type)).toEqual(['run_started'])
  expect(second.turn.epoch).not.toBe(open.turn.epoch)
  second.respond({ state: 'done', ops: [{ op: 'finish' }] })
  await system.waitForState(run, 'completed')
})

test('a report of a run whose lease somebody else took gets 409, and its turn ends', async () => {
  const { run, open } = await startTurn()
  const uuid = system.uuidOf(run)
  const thief = '01900000-0000-7000-8000-00000000abcd'
  await system.engine.pools.read`update stepwell.queue set owner = ${thief}, token = 7 where run_id = ${uuid}`

  const { status } = await post([reportFor(open.turn, { ops: [aStep('charge')] })])

  expect(status).toBe(409)
  expect((await system.journal(run)).map(entry => entry.type)).toEqual(['run_started'])
  await waitUntil('the engine hangs up', () => open.isClosed())
  await system.engine.pools.read`update stepwell.queue set owner = null, token = null where run_id = ${uuid}`
  const second = await nextTurn(run)
  second.respond({ state: 'done', ops: [{ op: 'finish' }] })
  await system.waitForState(run, 'completed')
})

test('of reports in one batch, each gets its own answer', async () => {
  const { run, open } = await startTurn()
  const stale = reportFor(open.turn, { epoch: '99', ops: [aStep('forged')] })

  const { status, acks } = await post([
    stale,
    reportFor(open.turn, { ops: [aStep('real')] }),
    reportFor(open.turn, { n: 7 }),
  ])

  expect(status).toBe(200)
  expect(acks.map(ack => ack.status)).toEqual([409, 200, 422])
  expect((await system.journal(run)).map(entry => ('key' in entry ? entry.key : null))).toEqual([null, 'real'])
  open.respond({ n: 2, state: 'done', ops: [{ op: 'finish' }] })
  await system.waitForState(run, 'completed')
})

test('what arrives during a turn rides back on the next acknowledgement, before what that report brings', async () => {
  const { run, open } = await startTurn()
  await post([reportFor(open.turn, { ops: [{ op: 'wait', key: 'ok', saw: 1, event: 'hand.ok' }] })])
  await system.client.send({ name: 'hand.ok', data: { by: 'me' } })

  const { acks } = await post([reportFor(open.turn, { n: 2, ops: [aStep('after')] })])

  expect(acks[0]).toMatchObject({
    entries: [
      { seq: 3, type: 'wait_matched', key: 'ok', data: { data: { by: 'me' } } },
      { seq: 4, type: 'step_completed', key: 'after' },
    ],
  })
  open.respond({ n: 3, state: 'done', ops: [{ op: 'finish' }] })
  await system.waitForState(run, 'completed')
})

test('an app that knows nothing of reports gets the same result, a step per turn', async () => {
  const { run, open } = await startTurn()

  open.respond({ state: 'continue', ops: [aStep('one')] })
  const second = await nextTurn(run)
  second.respond({ state: 'continue', ops: [aStep('two', { saw: 2 })] })
  const third = await nextTurn(run)
  third.respond({ state: 'done', ops: [{ op: 'finish', output: 'both' }] })
  const ended = await system.waitForState(run, 'completed')

  expect([open, second, third].map(({ turn }) => [turn.turn, turn.journal.length])).toEqual([
    [1, 1],
    [2, 2],
    [3, 3],
  ])
  expect(ended.output).toBe('both')
})

test('a response that says the turn is still running is no answer', async () => {
  const { run, open } = await startTurn()

  open.respond({ state: 'running', ops: [aStep('charge')] })
  const second = await nextTurn(run)
  second.respond({ state: 'done', ops: [{ op: 'finish' }] })
  await system.waitForState(run, 'completed')

  expect((await system.journal(run)).map(entry => entry.type)).toEqual(['run_started'])
})

test('a report that nests too deep is refused, and a response that does is no answer', async () => {
  const { run, open } = await startTurn()
  const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
  const text = JSON.stringify(
    reportFor(open.turn, { state: 'continue', ops: [aStep('deep', { output: 'DEEP' })] }),
  ).replace('"DEEP"', deep)

  open.respondText(text)
  const second = await nextTurn(run)
  second.respond({ state: 'done', ops: [{ op: 'finish' }] })
  await system.waitForState(run, 'completed')

  expect((await system.journal(run)).map(entry => entry.type)).toEqual(['run_started'])
})

test('a report by POST that would settle the turn is refused: that is the response’s to do', async () => {
  const { run, open } = await startTurn()

  const { acks } = await post([reportFor(open.turn, { state: 'done', ops: [{ op: 'finish' }] })])
  open.respond({ state: 'done', ops: [{ op: 'finish', output: 'by the response' }] })

  expect(acks).toMatchObject([{ status: 422, code: 'body_invalid' }])
  expect((await system.waitForState(run, 'completed')).output).toBe('by the response')
})

test('a run whose journal is larger than a run may hold fails by name, whatever made it so large', async () => {
  const { run, open } = await startTurn()
  // 3 bytes each in UTF-8: 11 of them are over the limit, by characters they would not be.
  const large = '漢'.repeat(349_000)
  for (let n = 1; n <= 40; n += 1) {
    const { acks } = await post([reportFor(open.turn, { n, ops: [aStep(`large ${n}`, { output: large })] })])
    if (acks[0]?.status !== 200) break
  }

  expect(await system.waitForState(run, 'failed')).toMatchObject({ error: { code: 'journal_too_large' } })
  open.respond({ n: 41, state: 'continue' })
})

test('what the database cannot store ends that turn with words, and harms no other', async () => {
  const { run, open } = await startTurn()
  const other = await startTurn()
  // Stands for whatever the schemas of the edge let through and Postgres does not.
  await system.engine.pools
    .read`alter table stepwell.journal add constraint refuse check (key is distinct from 'poison')`

  const { acks } = await post([
    reportFor(open.turn, { ops: [aStep('poison')] }),
    reportFor(other.open.turn, { ops: [aStep('fine')] }),
  ])
  const stuck = await system.client.getRun(run)
  await system.engine.pools.read`alter table stepwell.journal drop constraint refuse`

  expect(acks.map(ack => ack.status)).toEqual([422, 200])
  expect(stuck.waitingFor).toContain('something that cannot be stored')
  other.open.respond({ n: 2, state: 'done', ops: [{ op: 'finish' }] })
  await system.waitForState(other.run, 'completed')
  const second = await nextTurn(run)
  second.respond({ state: 'done', ops: [{ op: 'finish' }] })
  await system.waitForState(run, 'completed')
})
