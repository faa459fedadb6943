/*
 * A small real app that answers turns by hand: those that come alone at once, those that come together as the test says.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { encodeFrame, HEADERS, type Report, responseId, signHeaders } from '@stepwell/protocol'
import { listen, readBody } from '../support/app-server.ts'
import { waitUntil } from '../support/wait-until.ts'

export const KEY = `whsec_${Buffer.alloc(32, 1).toString('base64')}`
export const OTHER_KEY = `whsec_${Buffer.alloc(32, 2).toString('base64')}`

/** A request with several turns, which stays open until the test ends it. */
export interface Batch {
  workspace: string
  /** The runs of its turns. */
  runs: string[]
  response: ServerResponse
  isClosed(): boolean
  /** A frame of the answer. */
  frame(reports: unknown[] | string, signed?: { key?: string; id?: string }): Buffer
  /** Sends the last reports of these runs, in one frame. */
  report(...runs: string[]): void
}

export interface TurnsApp {
  url: string
  /** Whether it says that it takes several turns in one request. */
  accepts: boolean
  /** How it answers such a request instead of leaving it to the test. */
  refuses: ((response: ServerResponse) => void) | null
  /** Turns that came alone are answered when it is open. */
  gate: Promise<unknown>
  /** What has come, in order: the runs of each request. A turn that came alone is no list. */
  received: (string | string[])[]
  batches: Batch[]
  /** The next request with several turns that nobody has taken yet. */
  nextBatch(): Promise<Batch>
  close(): Promise<void>
}

export function reportOf(run: string, given: object = {}): Report {
  const ops = [{ op: 'finish' as const, output: run }]
  return { kind: 'report', run, generation: 1, turn: 1, epoch: '1', n: 1, state: 'done', ops, ...given }
}

interface Body {
  kind: 'turn' | 'turns'
  workspace: string
  run: { id: string }
  turns: { run: { id: string } }[]
}

export async function startTurnsApp(): Promise<TurnsApp> {
  let taken = 0
  const server = await listen(takeRequest)
  const app: TurnsApp = {
    url: `${server.url}/api/stepwell`,
    accepts: true,
    refuses: null,
    gate: Promise.resolve(),
    received: [],
    batches: [],
    async nextBatch() {
      await waitUntil('turns come together', () => app.batches.length > taken)
      taken += 1
      return app.batches[taken - 1] as Batch
    },
    close: () => server.close(),
  }

  async function takeRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = JSON.parse((await readBody(request)).toString()) as Body
    const id = String(request.headers[HEADERS.id])
    if (body.kind === 'turns') takeTurns(body, id, response)
    else await answerTurn(body, id, response)
  }

  async function answerTurn(body: Body, id: string, response: ServerResponse): Promise<void> {
    app.received.push(body.run.id)
    await app.gate
    const text = JSON.stringify(reportOf(body.run.id))
    const signed = signHeaders({ id: responseId(id), nowMs: Date.now(), payload: text, secrets: [KEY] })
    response.writeHead(200, { ...signed, ...(app.accepts && { [HEADERS.accepts]: 'turns' }) }).end(text)
  }

  function takeTurns({ workspace, turns }: Body, id: string, response: ServerResponse): void {
    const runs = turns.map(turn => turn.run.id)
    app.received.push(runs)
    if (app.refuses !== null) return void app.refuses(response)
    const frame: Batch['frame'] = (reports, { key = KEY, id: signedId = responseId(id) } = {}) => {
      const payload = typeof reports === 'string' ? reports : JSON.stringify({ kind: 'reports', workspace, reports })
      return encodeFrame(signHeaders({ id: signedId, nowMs: Date.now(), payload, secrets: [key] }), payload)
    }
    response.on('error', () => {})
    if (app.accepts) response.setHeader(HEADERS.accepts, 'turns')
    app.batches.push({
      workspace,
      runs,
      response,
      isClosed: () => response.destroyed,
      frame,
      report: (...ended) => void response.write(frame(ended.map(run => reportOf(run)))),
    })
  }

  return app
}
