/*
 * An app on a port, in the hands of a test: it gets turns and answers them when the test says so.
 */
import type { ServerResponse } from 'node:http'
import {
  type Description,
  HEADERS,
  type Op,
  type Report,
  type ReportState,
  responseId,
  signHeaders,
  type Turn,
} from '@stepwell/protocol'
import { type ListeningServer, listen, readBody } from '../support/app-server.ts'

export interface HeldTurn {
  turn: Turn
  /** A report of this turn, the next in number. */
  report(state: ReportState, ops: Op[]): Report
  /** Ends the turn with its last report. */
  respond(state: ReportState, ops: Op[]): void
}

export interface TurnApp extends ListeningServer {
  /** The next turn that comes. */
  nextTurn(): Promise<HeldTurn>
}

/** Starts an app that serves `functions` (id -> event). */
export async function startTurnApp(options: {
  key: string
  functions: Record<string, string>
  port?: number
}): Promise<TurnApp> {
  const waiting: ((turn: HeldTurn) => void)[] = []
  const held: HeldTurn[] = []
  const server = await listen(async (request, response) => {
    const body = JSON.parse((await readBody(request)).toString('utf8')) as Turn | { kind: 'describe' }
    const requestId = String(request.headers[HEADERS.id])
    const send = (answer: Report | Description) => respond(response, requestId, options.key, answer)
    if (body.kind === 'describe') return send(describe(options.functions))
    const turn = holdTurn(body, send)
    const next = waiting.shift()
    if (next === undefined) held.push(turn)
    else next(turn)
  }, options.port)
  return {
    ...server,
    nextTurn: () => {
      const turn = held.shift()
      return turn === undefined ? new Promise(resolve => waiting.push(resolve)) : Promise.resolve(turn)
    },
  }
}

function holdTurn(turn: Turn, send: (report: Report) => void): HeldTurn {
  let n = 0
  const report = (state: ReportState, ops: Op[]): Report => {
    n += 1
    const { run, epoch } = turn
    return { kind: 'report', run: run.id, generation: run.generation, turn: turn.turn, epoch, n, state, ops }
  }
  return { turn, report, respond: (state, ops) => send(report(state, ops)) }
}

function describe(functions: Record<string, string>): Description {
  const list = Object.entries(functions).map(([id, event]) => ({ id, triggers: [{ event }] }))
  return { kind: 'description', sdk: 'test/0', functions: list }
}

function respond(response: ServerResponse, requestId: string, key: string, answer: unknown): void {
  const payload = JSON.stringify(answer)
  const signed = signHeaders({ id: responseId(requestId), nowMs: Date.now(), payload, secrets: [key] })
  response.writeHead(200, { 'content-type': 'application/json', ...signed }).end(payload)
}
