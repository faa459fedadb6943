/**
 * Delivers reports. All turns of this process that report to the same URL for the same workspace share one reporter:
 * few batches are in flight at a time, and the next carries whatever came meanwhile. So an idle process reports at once,
 * and a busy one in batches, which the engine commits together. A batch travels as a frame of a stream where there is
 * one, else as a request. The engine gives up a turn that shows no life for 30 seconds, so a report whose URL does not
 * answer goes back to its turn long before that.
 */
import {
  type AckBatch,
  type Entry,
  type Frame,
  HEADERS,
  LIMITS,
  newMessageId,
  PROTOCOL_VERSION,
  responseId,
  type SignatureHeaders,
  signHeaders,
  verify,
} from '@stepwell/protocol'
import type { HttpAnswer, HttpClient } from './http-client.ts'
import { fits } from './json.ts'
import { problemStatus, readAcks } from './read-acks.ts'
import type { ReportStreams, ReportTarget } from './report-streams.ts'
import { SDK } from './sdk-version.ts'
import { signatureHeadersOf } from './signature-headers.ts'
import type { UnreachableUrls } from './unreachable-urls.ts'

/** What became of a report. */
export type ReportAnswer =
  | { kind: 'acknowledged'; entries: Entry[]; shouldYield: boolean }
  /** Nothing was written: another process has the run. */
  | { kind: 'stale'; message: string }
  /** The engine does not take it, or not here: send no more of this turn, put the ops into the response. */
  | { kind: 'undelivered'; message: string }
  /** Nobody answered, so that it may have arrived or not: send the same again, or put the ops into the response. */
  | { kind: 'unreachable'; message: string }

/** A report that could not be delivered is sent again after these. */
const RETRY_DELAYS_MS = [50, 200, 500]

/** One try: a commit may have to wait behind others. */
const TRY_MS = 3_000

/** All tries and pauses of a report together. */
const DELIVERY_MS = 8_000

/** The only try while the URL is known to be unreachable: enough for an engine that is back. */
const TRY_UNREACHABLE_MS = 1_000

/** While one batch is being committed, the next one is on its way. More would be smaller, and cost more. */
const MAX_IN_FLIGHT = 2

/** Room for what stands around the reports in a body. */
const ENVELOPE_BYTES = 1_024

interface Waiting {
  text: string
  resolve: (answer: ReportAnswer) => void
}

/** One destination of reports. */
export class Reporter {
  readonly #target: ReportTarget
  readonly #client: HttpClient
  readonly #streams: ReportStreams
  readonly #unreachable: UnreachableUrls
  readonly #onIdle: () => void
  #queue: Waiting[] = []
  #inFlight = 0

  /** @param input `onIdle` is called when the last report has been answered */
  constructor(input: {
    target: ReportTarget
    client: HttpClient
    streams: ReportStreams
    unreachable: UnreachableUrls
    onIdle: () => void
  }) {
    this.#target = input.target
    this.#client = input.client
    this.#streams = input.streams
    this.#unreachable = input.unreachable
    this.#onIdle = input.onIdle
  }

  /** Delivers the text of one report, together with others. Never rejects. */
  report(text: string): Promise<ReportAnswer> {
    return new Promise(resolve => {
      this.#queue.push({ text, resolve })
      if (this.#inFlight < MAX_IN_FLIGHT) void this.#sendAll()
    })
  }

  async #sendAll(): Promise<void> {
    this.#inFlight += 1
    while (this.#queue.length > 0) {
      const batch = this.#takeBatch()
      const answers = await this.#deliver(batch.map(waiting => waiting.text))
      batch.forEach((waiting, at) => {
        waiting.resolve(answers[at] ?? { kind: 'undelivered', message: 'The engine did not answer this report.' })
      })
      const last = answers.at(-1)
      // What waited behind it has no time left to find out the same.
      if (last?.kind === 'unreachable') for (const waiting of this.#queue.splice(0)) waiting.resolve(last)
    }
    this.#inFlight -= 1
    if (this.#inFlight === 0) this.#onIdle()
  }

  /** As many as one body holds; a report that is too large for that goes alone. */
  #takeBatch(): Waiting[] {
    let bytesLeft = LIMITS.bodyBytes - ENVELOPE_BYTES
    let count = 0
    while (count < this.#queue.length && count < LIMITS.reportsPerBatch) {
      const text = this.#queue[count]?.text ?? ''
      if (count > 0 && !fits(text, bytesLeft)) break
      bytesLeft -= Buffer.byteLength(text) + 1
      count += 1
    }
    const batch = this.#queue.slice(0, count)
    this.#queue = this.#queue.slice(count)
    return batch
  }

  /** One answer per report, or one for all when the batch as a whole was not taken. */
  async #deliver(texts: string[]): Promise<ReportAnswer[]> {
    const body = `{"kind":"reports","workspace":${JSON.stringify(this.#target.workspace)},"reports":[${texts.join(',')}]}`
    const startedAtMs = performance.now()
    const isKnown = this.#unreachable.has(this.#target.url, startedAtMs)
    let message = ''
    for (const delayMs of isKnown ? [0] : [0, ...RETRY_DELAYS_MS]) {
      if (performance.now() + delayMs >= startedAtMs + DELIVERY_MS) break
      if (delayMs > 0) await new Promise(resolve => setTimeout(resolve, delayMs))
      const leftMs = startedAtMs + DELIVERY_MS - performance.now()
      const outcome = await this.#post(body, texts.length, Math.min(leftMs, isKnown ? TRY_UNREACHABLE_MS : TRY_MS))
      if ('unreachable' in outcome) {
        message = outcome.unreachable
        continue
      }
      this.#unreachable.delete(this.#target.url)
      if ('answers' in outcome) return outcome.answers
      if (outcome.isAboutBody && texts.length > 1) return this.#deliverApart(texts)
      return texts.map(() => ({ kind: 'undelivered', message: outcome.refused }))
    }
    if (!isKnown) this.#unreachable.add(this.#target.url, performance.now())
    return texts.map(() => ({ kind: 'unreachable', message }))
  }

  /** One report that the engine finds malformed must not keep those of other runs from being recorded. */
  async #deliverApart(texts: string[]): Promise<ReportAnswer[]> {
    const answers: ReportAnswer[] = []
    for (const text of texts) {
      const last = answers.at(-1)
      answers.push(...(last?.kind === 'unreachable' ? [last] : await this.#deliver([text])))
    }
    return answers
  }

  async #post(body: string, count: number, timeoutMs: number): Promise<PostOutcome> {
    const { workspace, secrets } = this.#target
    try {
      const id = newMessageId()
      const signed = signHeaders({ id, nowMs: Date.now(), payload: body, secrets })
      const stream = this.#streams.find(this.#target)
      if (stream !== null) {
        const exchange = stream.exchange(signed, body, timeoutMs)
        const frame = await exchange.catch(error => {
          if (!stream.hasAnswered) this.#streams.giveUp(this.#target)
          throw error
        })
        return this.#readFrame(frame, id, count)
      }
      const headers = {
        'content-type': 'application/json',
        [HEADERS.version]: PROTOCOL_VERSION,
        [HEADERS.workspace]: workspace,
        [HEADERS.sdk]: SDK,
        ...signed,
      }
      const answer = await this.#client.send({ method: 'POST', url: this.#target.url, headers, body, timeoutMs })
      if (answer.status === 200) this.#streams.prepare(this.#target)
      return this.#readAnswer(answer, id, count)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      return { unreachable: `The engine did not answer at ${this.#target.url}: ${why}` }
    }
  }

  #readAnswer({ status, headers, body }: HttpAnswer, id: string, count: number): PostOutcome {
    if (status >= 500) return { unreachable: this.#answered(status) }
    const refusal = status === 200 ? this.#verify(signatureHeadersOf(headers), body, id) : null
    if (refusal !== null) return { refused: refusal, isAboutBody: false }
    return this.#readAcks(body, count, status)
  }

  /** Every frame is signed, whatever it says. */
  #readFrame({ headers, body }: Frame, id: string, count: number): PostOutcome {
    const refusal = this.#verify(headers, body, id)
    if (refusal !== null) return { refused: refusal, isAboutBody: false }
    const status = problemStatus(body)
    if (status !== null && status >= 500) return { unreachable: this.#answered(status) }
    return this.#readAcks(body, count, status ?? 200)
  }

  #readAcks(body: Buffer, count: number, status: number): PostOutcome {
    const acks = readAcks(body, count)
    if (acks === null) return { refused: this.#answered(status), isAboutBody: BODY_STATUSES.includes(status) }
    return { answers: acks.map(answerOf) }
  }

  /** Why this is not the engine's answer to the message of that id; null when it is. */
  #verify(headers: SignatureHeaders, payload: Buffer, id: string): string | null {
    const verified = verify({ headers, payload, secrets: this.#target.secrets, nowMs: Date.now() })
    if (!verified.ok) return verified.message
    return verified.id === responseId(id) ? null : 'The answer to the report belongs to another request.'
  }

  #answered(status: number): string {
    return `The engine answered ${status} at ${this.#target.url}.`
  }
}

/** What became of a batch: an answer per report, or why it was not taken as a whole. */
type PostOutcome =
  | { answers: ReportAnswer[] }
  /** `isAboutBody`: one of its reports may be at fault, or all of them together are too large. */
  | { refused: string; isAboutBody: boolean }
  | { unreachable: string }

const BODY_STATUSES: readonly number[] = [400, 413, 422]

function answerOf(ack: AckBatch['acks'][number]): ReportAnswer {
  if (ack.status === 200) return { kind: 'acknowledged', entries: ack.entries, shouldYield: ack.yield === true }
  return { kind: ack.status === 409 ? 'stale' : 'undelivered', message: ack.message }
}
