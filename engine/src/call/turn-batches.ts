/*
 * Turns that start in the same moment go to an app in one request, where the app has said that it takes such (SPEC.md 3.1).
 * Its response is open for as long as any of them runs, and brings their last reports as signed frames, each as soon as
 * there is something to say. To the caller each turn is a call of its own: it ends when its report is there, and fails
 * alone when its app shows no sign of life, or with all others when the connection does.
 */
import { type Frame, FrameReader, HEADERS, LIMITS, newMessageId } from '@stepwell/protocol'
import { type AppCall, headersFor } from './app-call.ts'
import type { ExchangeOutcome, Exchanger } from './exchange.ts'
import {
  type Answered,
  type AppOutcome,
  explainFailure,
  explainOutcome,
  type Refusal,
  readBatchFrame,
  refuseBytes,
} from './read-answer.ts'

const TURNS_MAX = 64
/** Half of what common proxies let through by default. */
const BODY_BYTES_MAX = 512 * 1024
/** Where batches were refused: no others for that long, whatever the app says. */
const REFUSED_MS = 60_000
/** Apps come and go; each has a URL of its own. */
const URLS_MAX = 1_000

interface Waiting {
  call: AppCall
  resolve: (outcome: AppOutcome) => void
}

/** Puts calls together, by URL. */
export class TurnBatches {
  readonly #exchanger: Exchanger
  readonly #sendAlone: (call: AppCall) => Promise<AppOutcome>
  readonly #accepting = new Set<string>()
  /** Until when, by our monotonic clock. */
  readonly #refusedUntil = new Map<string, number>()
  readonly #gathered = new Map<string, Waiting[]>()

  constructor(exchanger: Exchanger, sendAlone: (call: AppCall) => Promise<AppOutcome>) {
    this.#exchanger = exchanger
    this.#sendAlone = sendAlone
  }

  /** What the app at this URL says of itself in every answer; apps are deployed anew, so it may change. */
  note(url: string, accepts: boolean): void {
    if (!accepts) this.#accepting.delete(url)
    else if (this.#accepting.size < URLS_MAX && performance.now() >= (this.#refusedUntil.get(url) ?? 0)) {
      this.#refusedUntil.delete(url)
      this.#accepting.add(url)
    }
  }

  #refuse(url: string): void {
    this.#accepting.delete(url)
    if (this.#refusedUntil.size < URLS_MAX) this.#refusedUntil.set(url, performance.now() + REFUSED_MS)
  }

  /** Sends a turn, with others that are sent before the present task is over. */
  send(call: AppCall): Promise<AppOutcome> {
    const url = call.catalog.url ?? ''
    if (!this.#accepting.has(url)) return this.#sendAlone(call)
    return new Promise(resolve => {
      const name = `${url} ${call.catalog.name}`
      const gathered = this.#gathered.get(name)
      if (gathered !== undefined) {
        gathered.push({ call, resolve })
        return
      }
      this.#gathered.set(name, [{ call, resolve }])
      queueMicrotask(() => this.#flush(name))
    })
  }

  #flush(name: string): void {
    const waiting = this.#gathered.get(name) ?? []
    this.#gathered.delete(name)
    for (const batch of cut(waiting)) {
      const [only] = batch
      // Not awaited: each call is answered by itself. Neither rejects.
      if (batch.length === 1 && only !== undefined) void this.#sendAlone(only.call).then(only.resolve)
      else void this.#sendTogether(batch)
    }
  }

  async #sendTogether(batch: Waiting[]): Promise<void> {
    const [first] = batch
    if (first === undefined) return
    const { catalog } = first.call
    const url = catalog.url ?? ''
    const body = `{"kind":"turns","workspace":${JSON.stringify(catalog.name)},"turns":[${batch.map(({ call }) => call.body).join(',')}]}`
    const id = newMessageId()
    const open = new OpenTurns(batch, id)
    const outcome = await this.#exchanger.send({
      url: new URL(url),
      body,
      bodyBytesMax: LIMITS.bodyBytes,
      headers: headersFor(catalog, id, body),
      onChunk: chunk => open.read(chunk),
      reasonToAbort: () => open.look(),
    })
    if (outcome.kind === 'answer' && outcome.status === 200)
      this.note(url, outcome.headers[HEADERS.accepts] === 'turns')
    if (isRefusal(outcome)) {
      this.#refuse(url)
      for (const { call, resolve } of open.left()) void this.#sendAlone(call).then(resolve)
    } else open.end(outcome)
  }
}

/** As many as are worth one request. */
function cut(waiting: Waiting[]): Waiting[][] {
  const batches: Waiting[][] = []
  let bytes = 0
  for (const one of waiting) {
    const last = batches.at(-1)
    const size = Buffer.byteLength(one.call.body)
    bytes += size
    if (last !== undefined && last.length < TURNS_MAX && bytes <= BODY_BYTES_MAX) last.push(one)
    else {
      batches.push([one])
      bytes = size
    }
  }
  return batches
}

/**
 * The request as such was refused, so that none of its turns has begun: an SDK that does not take batches, or a proxy that does
 * not let as much through.
 */
function isRefusal(outcome: ExchangeOutcome): boolean {
  return outcome.kind === 'answer' && (outcome.status === 400 || outcome.status === 413)
}

/** The turns of one request that have not ended. */
class OpenTurns {
  readonly #open = new Map<string, Waiting>()
  readonly #id: string
  readonly #reader = new FrameReader()
  /** Why nothing more of this response is believed. */
  #refusal: Refusal | null = null

  constructor(batch: Waiting[], id: string) {
    this.#id = id
    for (const one of batch) this.#open.set(one.call.turn ?? '', one)
  }

  left(): Iterable<Waiting> {
    return this.#open.values()
  }

  /** A part of the response's body. Returns whether more is wanted. */
  read(chunk: Buffer): boolean {
    const [any] = this.#open.values()
    // The end of a response whose turns have all been reported.
    if (any === undefined) return true
    try {
      for (const frame of this.#reader.read(chunk)) this.#take(frame)
    } catch (error) {
      this.#refusal = refuseBytes(any.call, error)
    }
    const refusal = this.#refusal
    if (refusal === null) return true
    this.#failAll(() => refusal, performance.now())
    return false
  }

  #take(frame: Frame): void {
    const [any] = this.#open.values()
    if (any === undefined || this.#refusal !== null) return
    const read = readBatchFrame(any.call, this.#id, frame)
    if ('refusal' in read) {
      this.#refusal = read.refusal
      return
    }
    for (const [turn, outcome] of read.outcomes) {
      const one = this.#open.get(turn)
      this.#open.delete(turn)
      one?.resolve({ ...outcome, firstByteAtMs: performance.now() })
    }
  }

  /** Gives up turns that nobody waits for, and those without a sign of life. When none is left, so is the request. */
  look(): string | null {
    for (const [turn, { call, resolve }] of this.#open) {
      const reason = call.isOver() ? 'over' : isSilent(call) ? 'timeout' : null
      if (reason === null) continue
      this.#open.delete(turn)
      resolve({ ...explainFailure(call, reason, new Error(reason), false), firstByteAtMs: null })
    }
    return this.#open.size === 0 ? 'over' : null
  }

  /** The response is over: what has not been reported is not going to be. */
  end(outcome: ExchangeOutcome): void {
    const isComplete = outcome.kind === 'answer' && outcome.status === 200
    this.#failAll(
      call =>
        this.#refusal ??
        (isComplete
          ? explainFailure(call, null, new Error('not all turns were reported'), true)
          : explainOutcome(call, this.#id, outcome)),
      outcome.firstByteAtMs,
    )
  }

  #failAll(explain: (call: AppCall) => Answered, firstByteAtMs: number | null): void {
    for (const { call, resolve } of this.#open.values()) resolve({ ...explain(call), firstByteAtMs })
    this.#open.clear()
  }
}

function isSilent(call: AppCall): boolean {
  return performance.now() - call.lastSignAtMs() > call.timeoutMs
}
