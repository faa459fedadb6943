/**
 * Delivers reports. All turns of this process that report to the same URL for the same workspace share one reporter:
 * one POST is in flight at a time, and the next carries whatever came meanwhile. So an idle process reports at once,
 * and a busy one in batches, which the engine commits together.
 */
import {
  type AckBatch,
  type Entry,
  HEADERS,
  LIMITS,
  newMessageId,
  PROTOCOL_VERSION,
  responseId,
  signHeaders,
  verify,
} from '@stepwell/protocol'
import type { HttpAnswer, HttpClient } from './http-client.ts'
import { fits } from './json.ts'
import { readAcks } from './read-acks.ts'
import { SDK } from './sdk-version.ts'
import { signatureHeadersOf } from './signature-headers.ts'

/** What became of a report. */
export type ReportAnswer =
  | { kind: 'acknowledged'; entries: Entry[]; shouldYield: boolean }
  /** Nothing was written: another process has the run. */
  | { kind: 'stale'; message: string }
  /** It did not arrive, or not where the run is: put the ops into the response. */
  | { kind: 'undelivered'; message: string }

/** A report that could not be delivered is sent again after these. */
const RETRY_DELAYS_MS = [50, 200, 500]

/** A commit may have to wait behind others. */
const ANSWER_TIMEOUT_MS = 15_000

/** Room for what stands around the reports in a body. */
const ENVELOPE_BYTES = 1_024

interface Waiting {
  text: string
  resolve: (answer: ReportAnswer) => void
}

/** One destination of reports. */
export class Reporter {
  readonly #url: string
  readonly #workspace: string
  readonly #secrets: readonly string[]
  readonly #client: HttpClient
  readonly #onIdle: () => void
  #queue: Waiting[] = []
  #isSending = false

  /** @param input `onIdle` is called when the last report has been answered */
  constructor(input: {
    url: string
    workspace: string
    secrets: readonly string[]
    client: HttpClient
    onIdle: () => void
  }) {
    this.#url = input.url
    this.#workspace = input.workspace
    this.#secrets = input.secrets
    this.#client = input.client
    this.#onIdle = input.onIdle
  }

  /** Delivers the text of one report, together with others. Never rejects. */
  report(text: string): Promise<ReportAnswer> {
    return new Promise(resolve => {
      this.#queue.push({ text, resolve })
      if (!this.#isSending) void this.#sendAll()
    })
  }

  async #sendAll(): Promise<void> {
    this.#isSending = true
    while (this.#queue.length > 0) {
      const batch = this.#takeBatch()
      const answers = await this.#deliver(batch.map(waiting => waiting.text))
      batch.forEach((waiting, at) => {
        waiting.resolve(answers[at] ?? { kind: 'undelivered', message: 'The engine did not answer this report.' })
      })
    }
    this.#isSending = false
    this.#onIdle()
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
    const body = `{"kind":"reports","workspace":${JSON.stringify(this.#workspace)},"reports":[${texts.join(',')}]}`
    let refused: Refusal = { isWorthRetrying: false, isAboutBody: false, message: '' }
    for (const delayMs of [0, ...RETRY_DELAYS_MS]) {
      if (delayMs > 0) await new Promise(resolve => setTimeout(resolve, delayMs))
      const outcome = await this.#post(body, texts.length)
      if ('answers' in outcome) return outcome.answers
      refused = outcome
      if (!outcome.isWorthRetrying) break
    }
    if (refused.isAboutBody && texts.length > 1) return this.#deliverApart(texts)
    return texts.map(() => ({ kind: 'undelivered', message: refused.message }))
  }

  /** One report that the engine finds malformed must not keep those of other runs from being recorded. */
  async #deliverApart(texts: string[]): Promise<ReportAnswer[]> {
    const answers: ReportAnswer[] = []
    for (const text of texts) answers.push(...(await this.#deliver([text])))
    return answers
  }

  async #post(body: string, count: number): Promise<PostOutcome> {
    try {
      const id = newMessageId()
      const headers = {
        'content-type': 'application/json',
        [HEADERS.version]: PROTOCOL_VERSION,
        [HEADERS.workspace]: this.#workspace,
        [HEADERS.sdk]: SDK,
        ...signHeaders({ id, nowMs: Date.now(), payload: body, secrets: this.#secrets }),
      }
      const request = { method: 'POST', url: this.#url, headers, body, timeoutMs: ANSWER_TIMEOUT_MS } as const
      return this.#read(await this.#client.send(request), id, count)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      return { isWorthRetrying: true, isAboutBody: false, message: `The engine did not answer at ${this.#url}: ${why}` }
    }
  }

  #read({ status, headers, body }: HttpAnswer, id: string, count: number): PostOutcome {
    const answered = `The engine answered ${status} at ${this.#url}.`
    if (status >= 500) return { isWorthRetrying: true, isAboutBody: false, message: answered }
    if (status === 200) {
      const received = signatureHeadersOf(headers)
      const verified = verify({ headers: received, payload: body, secrets: this.#secrets, nowMs: Date.now() })
      const isOurs = verified.ok && verified.id === responseId(id)
      const message = verified.ok ? 'The answer to the report belongs to another request.' : verified.message
      if (!isOurs) return { isWorthRetrying: false, isAboutBody: false, message }
    }
    const acks = readAcks(body, count)
    if (acks === null) return { isWorthRetrying: false, isAboutBody: BODY_STATUSES.includes(status), message: answered }
    return { answers: acks.map(answerOf) }
  }
}

/** Why a batch as a whole was not taken. */
interface Refusal {
  isWorthRetrying: boolean
  /** One of its reports may be at fault, or all of them together are too large. */
  isAboutBody: boolean
  message: string
}

type PostOutcome = { answers: ReportAnswer[] } | Refusal

const BODY_STATUSES: readonly number[] = [400, 413, 422]

function answerOf(ack: AckBatch['acks'][number]): ReportAnswer {
  if (ack.status === 200) return { kind: 'acknowledged', entries: ack.entries, shouldYield: ack.yield === true }
  return { kind: ack.status === 409 ? 'stale' : 'undelivered', message: ack.message }
}
