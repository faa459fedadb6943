/**
 * Delivers reports. All turns of this process that report to the same URL for the same workspace share one reporter:
 * one POST is in flight at a time, and the next carries whatever came meanwhile. So an idle process reports at once,
 * and a busy one in batches, which the engine commits together. The engine gives up a turn that shows no life for 30
 * seconds, so a report whose URL does not answer goes back to its turn long before that.
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
  readonly #unreachable: UnreachableUrls
  readonly #onIdle: () => void
  #queue: Waiting[] = []
  #isSending = false

  /** @param input `onIdle` is called when the last report has been answered */
  constructor(input: {
    url: string
    workspace: string
    secrets: readonly string[]
    client: HttpClient
    unreachable: UnreachableUrls
    onIdle: () => void
  }) {
    this.#url = input.url
    this.#workspace = input.workspace
    this.#secrets = input.secrets
    this.#client = input.client
    this.#unreachable = input.unreachable
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
      const last = answers.at(-1)
      // What waited behind it has no time left to find out the same.
      if (last?.kind === 'unreachable') for (const waiting of this.#queue.splice(0)) waiting.resolve(last)
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
    const startedAtMs = performance.now()
    const isKnown = this.#unreachable.has(this.#url, startedAtMs)
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
      this.#unreachable.delete(this.#url)
      if ('answers' in outcome) return outcome.answers
      if (outcome.isAboutBody && texts.length > 1) return this.#deliverApart(texts)
      return texts.map(() => ({ kind: 'undelivered', message: outcome.refused }))
    }
    if (!isKnown) this.#unreachable.add(this.#url, performance.now())
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
    try {
      const id = newMessageId()
      const headers = {
        'content-type': 'application/json',
        [HEADERS.version]: PROTOCOL_VERSION,
        [HEADERS.workspace]: this.#workspace,
        [HEADERS.sdk]: SDK,
        ...signHeaders({ id, nowMs: Date.now(), payload: body, secrets: this.#secrets }),
      }
      const request = { method: 'POST', url: this.#url, headers, body, timeoutMs } as const
      return this.#read(await this.#client.send(request), id, count)
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      return { unreachable: `The engine did not answer at ${this.#url}: ${why}` }
    }
  }

  #read({ status, headers, body }: HttpAnswer, id: string, count: number): PostOutcome {
    const answered = `The engine answered ${status} at ${this.#url}.`
    if (status >= 500) return { unreachable: answered }
    if (status === 200) {
      const received = signatureHeadersOf(headers)
      const verified = verify({ headers: received, payload: body, secrets: this.#secrets, nowMs: Date.now() })
      const isOurs = verified.ok && verified.id === responseId(id)
      const message = verified.ok ? 'The answer to the report belongs to another request.' : verified.message
      if (!isOurs) return { refused: message, isAboutBody: false }
    }
    const acks = readAcks(body, count)
    if (acks === null) return { refused: answered, isAboutBody: BODY_STATUSES.includes(status) }
    return { answers: acks.map(answerOf) }
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
