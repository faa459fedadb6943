/*
 * One HTTP exchange with an app, over undici's `dispatch`: no streams and no signals are made for it, which cost more than
 * the exchange. Aborted by a watch that looks at all exchanges together.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { Agent, type Dispatcher } from 'undici'

const KEEP_ALIVE_MS = 30_000
const CONNECT_TIMEOUT_MS = 5_000
/** How often the watch looks. */
const WATCH_MS = 250

export interface ExchangeRequest {
  url: URL
  headers: Record<string, string>
  body: string
  /** Of the answer; more is not read. */
  bodyBytesMax: number
  /** Takes the body of a 200 as it comes, however long it gets; `body` is then empty. False: the rest is not wanted. */
  onChunk?: (chunk: Buffer) => boolean
  /** Asked now and then: why the exchange should be given up; null while it should not. */
  reasonToAbort: () => string | null
}

export type ExchangeOutcome =
  | { kind: 'answer'; status: number; headers: IncomingHttpHeaders; body: Buffer; firstByteAtMs: number }
  | { kind: 'too_large'; firstByteAtMs: number }
  /** `aborted`: what the watch said; null when it failed by itself. */
  | { kind: 'failed'; error: Error; aborted: string | null; firstByteAtMs: number | null }

/** Connections to apps; as many exchanges at once as there are connections. */
export class Exchanger {
  readonly #agent: Agent
  readonly #underWay = new Set<Exchange>()
  #watch: NodeJS.Timeout | null = null

  constructor(connections: number) {
    this.#agent = new Agent({
      connections,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connect: { timeout: CONNECT_TIMEOUT_MS },
      // An app may be silent for as long as it reports; the watch decides, and not undici.
      headersTimeout: 0,
      bodyTimeout: 0,
    })
  }

  /** POSTs. Never rejects. */
  send(request: ExchangeRequest): Promise<ExchangeOutcome> {
    return new Promise(resolve => {
      const exchange = new Exchange(request, outcome => {
        this.#underWay.delete(exchange)
        resolve(outcome)
      })
      this.#underWay.add(exchange)
      this.#watch ??= setInterval(() => this.#look(), WATCH_MS)
      const { url, headers, body } = request
      try {
        this.#agent.dispatch(
          { origin: url.origin, path: url.pathname + url.search, method: 'POST', headers, body },
          exchange,
        )
      } catch (error) {
        exchange.fail(error instanceof Error ? error : new Error(String(error)))
      }
    })
  }

  #look(): void {
    for (const exchange of this.#underWay) exchange.look()
    if (this.#underWay.size > 0 || this.#watch === null) return
    clearInterval(this.#watch)
    this.#watch = null
  }

  async close(): Promise<void> {
    if (this.#watch !== null) clearInterval(this.#watch)
    await this.#agent.destroy()
  }
}

/** What undici tells about one exchange, put together. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #request: ExchangeRequest
  readonly #finish: (outcome: ExchangeOutcome) => void
  #controller: Dispatcher.DispatchController | null = null
  #aborted: string | null = null
  #isOver = false
  #status = 0
  #headers: IncomingHttpHeaders = {}
  #chunks: Buffer[] = []
  #sizeBytes = 0
  #firstByteAtMs: number | null = null

  constructor(request: ExchangeRequest, finish: (outcome: ExchangeOutcome) => void) {
    this.#request = request
    this.#finish = finish
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#aborted !== null) controller.abort(new Error(this.#aborted))
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    // Informational ones come before.
    if (status < 200) return
    this.#firstByteAtMs = performance.now()
    this.#status = status
    this.#headers = headers
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#status === 200 && this.#request.onChunk !== undefined) {
      if (!this.#request.onChunk(chunk)) controller.abort(new Error('not wanted'))
      return
    }
    this.#sizeBytes += chunk.length
    if (this.#sizeBytes <= this.#request.bodyBytesMax) {
      this.#chunks.push(chunk)
      return
    }
    this.#end({ kind: 'too_large', firstByteAtMs: this.#firstByteAtMs ?? performance.now() })
    controller.abort(new Error('too large'))
  }

  onResponseEnd(): void {
    const [first] = this.#chunks
    const body = this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks)
    const firstByteAtMs = this.#firstByteAtMs ?? performance.now()
    this.#end({ kind: 'answer', status: this.#status, headers: this.#headers, body, firstByteAtMs })
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.fail(error)
  }

  fail(error: Error): void {
    this.#end({ kind: 'failed', error, aborted: this.#aborted, firstByteAtMs: this.#firstByteAtMs })
  }

  /** Gives up when there is a reason to, also while it still waits for a connection. */
  look(): void {
    if (this.#aborted !== null) return
    this.#aborted = this.#request.reasonToAbort()
    if (this.#aborted === null) return
    const error = new Error(this.#aborted)
    this.#controller?.abort(error)
    this.fail(error)
  }

  #end(outcome: ExchangeOutcome): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#finish(outcome)
  }
}
