/**
 * The outside world of the SDK: a small engine in memory, behind a real HTTP server on loopback. It sends turns, takes
 * batches of reports, checks signatures, assigns `seq`, and records ops as SPEC.md section 7 says. Time does not pass by
 * itself for runs that wait: `drive` lets it jump to what is due next.
 */
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  type Ack,
  type Entry,
  type Event,
  newMessageId,
  type Op,
  type Report,
  type ReportBatch,
  responseId,
  signHeaders,
  type Turn,
} from '@stepwell/protocol'
import { type EngineRun, newRun, recordReport } from './engine-run.ts'
import { checkSigned } from './signed.ts'
import { StreamDouble } from './stream-double.ts'

export const KEY = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
export const WORKSPACE = 'test/dev'

/** How the next batches that come as requests are answered, instead of being recorded. */
export type Trouble = 'status-500' | 'drop' | 'drop-after-commit' | 'stale' | 'not-holder' | 'garbage' | 'unsigned'

type App = (request: Request) => Promise<Response>

export class EngineDouble {
  readonly runs = new Map<string, EngineRun>()
  /** Every batch that was received, in order, by request or by stream. */
  readonly batches: ReportBatch[] = []
  /** Every turn that was sent and the report that ended it. */
  readonly turns: { turn: Turn; report: Report }[] = []
  /** Taken from the front, one per batch. */
  readonly troubles: Trouble[] = []
  /** Called with every report before it is recorded: to deliver something, to ask for a yield. */
  onReport: ((report: Report, run: EngineRun) => { yield?: true } | undefined) | null = null
  /** Every acknowledgement brings the whole journal once more. */
  repeatsJournal = false
  /** Batches that are answered with 400 as a whole. */
  refusesBatch: (batch: ReportBatch) => boolean = () => false
  /** Batches wait for it. */
  gate: Promise<unknown> = Promise.resolve()
  readonly streams: StreamDouble
  url = ''
  #app: App
  #server: http.Server
  #epochs = 0

  constructor(app: App) {
    this.#app = app
    this.#server = http.createServer((request, response) => void this.#onRequest(request, response))
    this.streams = new StreamDouble(this.#server, {
      key: KEY,
      receive: batch => this.#receive(batch),
      refuses: batch => this.refusesBatch(batch),
      record: batch => batch.reports.map(report => this.#take(report, undefined)),
    })
  }

  async open(): Promise<this> {
    await new Promise<void>(resolve => this.#server.listen(0, '127.0.0.1', resolve))
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
    return this
  }

  async close(): Promise<void> {
    this.streams.close()
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
  }

  deploy(app: App): void {
    this.#app = app
  }

  start(functionId: string, event: Partial<Event> = {}): EngineRun {
    const run = newRun(`run_${this.runs.size + 1}`, functionId, {
      id: `evt_${this.runs.size + 1}`,
      name: 'test.started',
      data: {},
      ts: '2026-01-01T00:00:00.000Z',
      ...event,
    })
    this.runs.set(run.id, run)
    return run
  }

  /** Sends turns until the run has ended, or waits for something that only the test can bring. */
  async drive(run: EngineRun, options: { maxTurns?: number; budgetMs?: number } = {}): Promise<EngineRun> {
    for (let turns = 0; turns < (options.maxTurns ?? 200); turns += 1) {
      const report = await this.turn(run, options)
      if (run.ended !== null || report.state === 'refused') return run
      if (report.state === 'waiting' && run.inbox.length === 0 && !run.letNextDueArrive()) return run
    }
    throw new Error(`${run.id} did not come to an end`)
  }

  /** One turn: delivers what lies in the inbox, sends the journal, records the last report. */
  async turn(run: EngineRun, options: { budgetMs?: number } = {}): Promise<Report> {
    const { status, report, turn } = await this.send(run, options)
    if (status !== 200 || report === null) throw new Error(`the app answered ${status}`)
    if (report.state !== 'refused') recordReport(run, report)
    run.epoch = ''
    this.turns.push({ turn, report })
    return report
  }

  /** Sends a turn and gives back the answer as it is, recording nothing of it. */
  async send(run: EngineRun, options: { budgetMs?: number } = {}) {
    this.#epochs += 1
    run.epoch = `epoch-${this.#epochs}`
    run.turn += 1
    run.deliver()
    run.lastAck = null
    const turn: Turn = {
      kind: 'turn',
      workspace: WORKSPACE,
      function: run.functionId,
      run: { id: run.id, generation: run.generation },
      turn: run.turn,
      epoch: run.epoch,
      budgetMs: options.budgetMs ?? 10_000,
      reportUrl: `${this.url}/reports`,
      journal: run.journal.slice(),
      ...(run.status !== undefined && { status: run.status }),
      ...(run.tags !== undefined && { tags: run.tags }),
    }
    const answer = await this.post(turn)
    const report = answer.status === 200 ? (JSON.parse(answer.text) as Report) : null
    return { ...answer, report, turn }
  }

  /** A signed request to the app; checks that a 200 is signed as its answer. */
  async post(body: unknown, headers: Record<string, string> = {}): Promise<{ status: number; text: string }> {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const id = newMessageId()
    const signed = signHeaders({ id, nowMs: Date.now(), payload: text, secrets: [KEY] })
    const response = await this.#app(
      new Request('http://app/api/stepwell', {
        method: 'POST',
        headers: { 'stepwell-version': '1', 'stepwell-workspace': WORKSPACE, ...signed, ...headers },
        body: text,
      }),
    )
    const answer = await response.text()
    if (response.status === 200)
      checkSigned(Object.fromEntries(response.headers), answer, { key: KEY, id: responseId(id) })
    return { status: response.status, text: answer }
  }

  async #onRequest(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    checkSigned(request.headers as Record<string, string>, body, { key: KEY })
    const batch = JSON.parse(body.toString()) as ReportBatch
    await this.#receive(batch)
    const trouble = this.troubles.shift()
    if (trouble === 'drop') return void request.socket.destroy()
    if (trouble === 'status-500') return void response.writeHead(500).end('oops')
    if (this.refusesBatch(batch)) return void response.writeHead(400).end('{"code":"body_invalid"}')
    if (trouble === 'garbage') return void this.#answer(request, response, 200, '<html>')
    const acks = batch.reports.map(report => this.#take(report, trouble))
    if (trouble === 'drop-after-commit') return void request.socket.destroy()
    const status = acks.some(ack => ack.status === 200) ? 200 : (acks[0]?.status ?? 200)
    const text = JSON.stringify({ kind: 'acks', acks })
    if (trouble === 'unsigned') return void response.writeHead(200).end(text)
    this.#answer(request, response, status, text)
  }

  #receive(batch: ReportBatch): Promise<unknown> {
    this.batches.push(batch)
    return this.gate
  }

  #answer(request: http.IncomingMessage, response: http.ServerResponse, status: number, text: string): void {
    const id = responseId(String(request.headers['webhook-id']))
    response.writeHead(status, { ...signHeaders({ id, nowMs: Date.now(), payload: text, secrets: [KEY] }) }).end(text)
  }

  #take(report: Report, trouble: Trouble | undefined): Ack {
    const run = this.runs.get(report.run)
    const { n } = report
    if (run === undefined || run.epoch !== report.epoch || trouble === 'stale') {
      return { run: report.run, n, status: 409, code: 'stale_epoch', message: 'another holder has the run' }
    }
    if (trouble === 'not-holder') return { run: run.id, n, status: 421, code: 'not_holder', message: 'not here' }
    if (run.lastAck?.n === n) return run.lastAck
    if (n !== (run.lastAck?.n ?? 0) + 1) {
      return { run: run.id, n, status: 422, code: 'body_invalid', message: `report ${n} was not expected` }
    }
    const wish = this.onReport?.(report, run) ?? undefined
    const from = run.journal.length
    run.deliver()
    recordReport(run, report)
    const entries = run.journal.slice(this.repeatsJournal ? 0 : from).map(entry => withoutSentOutput(entry, report.ops))
    run.lastAck = { run: run.id, n, status: 200, entries, ...wish }
    return run.lastAck
  }
}

/** The output that a report brought is not sent back. */
function withoutSentOutput(entry: Entry, ops: Op[]): Entry {
  const isFromReport = entry.type === 'step_completed' && ops.some(op => op.op === 'step' && op.key === entry.key)
  if (!isFromReport) return entry
  const { data: _data, ...rest } = entry
  return rest as Entry
}
