/*
 * An engine with its HTTP server, and an app that does nothing but hold turns, so that reports can be posted for them as
 * an SDK would. All in this process: the time of a round trip is that of both sides.
 */
import { randomBytes } from 'node:crypto'
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  type AckBatch,
  HEADERS,
  newMessageId,
  PROTOCOL_VERSION,
  type Report,
  responseId,
  signHeaders,
  type Turn,
} from '@stepwell/protocol'
import { listen } from 'stepwell/src/cli/listen.ts'
import { putKeys } from 'stepwell/src/cli/workspace-keys.ts'
import { createEngine } from 'stepwell/src/engine.ts'
import { createEdge } from 'stepwell/src/http/app.ts'
import { createLog } from 'stepwell/src/log.ts'
import type { Connection } from 'stepwell/src/store/db.ts'
import { saveApp } from 'stepwell/src/store/workspaces.ts'
import { FUNCTION } from './builders.ts'

/** A turn that the app has and does not answer until `end`. */
export interface HeldTurn {
  run: string
  epoch: string
  turn: number
  end(): void
}

export interface ReportRoute {
  /** Starts runs and resolves when the app has their turns. */
  hold(count: number): Promise<HeldTurn[]>
  /** Posts reports and resolves when all are acknowledged. */
  post(reports: Report[]): Promise<void>
  stop(): Promise<void>
}

const WORKSPACE = 'bench/route'
const EVENT = 'bench.held'
/** Longer than any measurement: nothing here shows a sign of life but reports. */
const TURN_TIMEOUT_MS = 600_000

export async function openReportRoute(connection: Connection): Promise<ReportRoute> {
  const secret = `whsec_${randomBytes(32).toString('base64')}`
  const app = await startHoldingApp(secret)
  const http = await listen(['127.0.0.1'], 0)
  const selfUrl = `http://127.0.0.1:${http.port}`
  const log = createLog('warn', 2)
  const engine = createEngine({ connection, log, selfUrl, isAlone: true, turnTimeoutMs: TURN_TIMEOUT_MS })
  const ws = await putKeys(engine.pools.upkeep, WORKSPACE, [secret])
  const functions = [{ id: FUNCTION, triggers: [{ event: EVENT }] }]
  await saveApp(engine.pools.upkeep, ws, { url: app.url, functions })
  http.serve(createEdge({ engine, mode: 'start', log }))
  await engine.start()
  const agent = new Agent({ keepAlive: true })

  return {
    async hold(count) {
      const held = app.take(count)
      await engine.sendEvents(
        ws,
        Array.from({ length: count }, () => ({ name: EVENT })),
      )
      return held
    },
    async post(reports) {
      const body = JSON.stringify({ kind: 'reports', workspace: WORKSPACE, reports })
      const headers = {
        'content-type': 'application/json',
        [HEADERS.version]: PROTOCOL_VERSION,
        [HEADERS.workspace]: WORKSPACE,
        ...signHeaders({ id: newMessageId(), nowMs: Date.now(), payload: body, secrets: [secret] }),
      }
      const answer = await post(`${selfUrl}/v1/reports`, { agent, headers, body })
      const { acks } = JSON.parse(answer) as AckBatch
      const refused = acks?.find(ack => ack.status !== 200)
      if (refused !== undefined || acks === undefined) throw new Error(`A report was refused: ${answer}`)
    },
    async stop() {
      agent.destroy()
      app.stop()
      await engine.stop(0, http.close)
    },
  }
}

function post(
  url: string,
  sent: { agent: Agent; headers: Record<string, string | number>; body: string },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const { agent, body } = sent
    const headers = { ...sent.headers, 'content-length': Buffer.byteLength(body) }
    request(url, { method: 'POST', agent, headers }, answer => readText(answer).then(resolve, reject))
      .on('error', reject)
      .end(body)
  })
}

async function startHoldingApp(
  secret: string,
): Promise<{ url: string; take(count: number): Promise<HeldTurn[]>; stop(): void }> {
  let held: HeldTurn[] = []
  let wanted = { count: 0, resolve: (_turns: HeldTurn[]) => {} }
  const server = createServer(async (asked, answer) => {
    const turn = JSON.parse(await readText(asked)) as Turn
    held.push(holdTurn(turn, { asked, answer, secret }))
    if (held.length === wanted.count) wanted.resolve(held)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  // A server that listens on a port has an address of this kind.
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    take(count) {
      held = []
      return new Promise(resolve => {
        wanted = { count, resolve }
      })
    },
    stop: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

function holdTurn(turn: Turn, way: { asked: IncomingMessage; answer: ServerResponse; secret: string }): HeldTurn {
  const { run, epoch } = turn
  return {
    run: run.id,
    epoch,
    turn: turn.turn,
    end() {
      const ops = [{ op: 'finish', output: null }]
      const n = 1_000_000
      const body = JSON.stringify({
        kind: 'report',
        run: run.id,
        generation: run.generation,
        turn: turn.turn,
        epoch,
        n,
        state: 'done',
        ops,
      })
      const id = responseId(String(way.asked.headers[HEADERS.id]))
      const signed = signHeaders({ id, nowMs: Date.now(), payload: body, secrets: [way.secret] })
      way.answer.writeHead(200, { 'content-type': 'application/json', [HEADERS.version]: PROTOCOL_VERSION, ...signed })
      way.answer.end(body)
    },
  }
}

async function readText(stream: AsyncIterable<unknown>): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
