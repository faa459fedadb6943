/** Talks to the engine: sends events, announces functions, reads runs. */
import { randomBytes } from 'node:crypto'
import {
  type CancelAnswer,
  createUuid7,
  type Duration,
  encodeId,
  isFinalState,
  type JournalEntryView,
  type JournalView,
  parseDuration,
  type RunList,
  type RunState,
  type RunView,
  type SendEventsAnswer,
  type SignalAnswer,
  type StreamTokenAnswer,
  type SyncAnswer,
} from '@stepwell/protocol'
import { EngineApi } from './engine-api.ts'
import { StepwellError } from './errors.ts'
import type { EventMap, TypedNewEvent, UntypedEvents } from './event-types.ts'
import type { DurableFunction } from './function.ts'
import { toJsonText } from './json.ts'
import type { SigningKey } from './keys.ts'
import { type Middleware, toHooks } from './middleware.ts'
import { toEventsText } from './new-events.ts'
import type { Payloads } from './payloads.ts'
import { readDuration } from './step-asks.ts'

/** How a client finds the engine. All of it may come from the environment, or from a local `stepwell dev`. */
export interface ClientOptions {
  /** Where the engine listens; otherwise STEPWELL_URL, or the local `stepwell dev`. */
  url?: string
  /** Where the engine reaches this app's endpoint (`https://shop.example/api/stepwell`); otherwise STEPWELL_APP_URL. */
  appUrl?: string
  /** `whsec_…`; otherwise STEPWELL_SIGNING_KEY, or the key of the local `stepwell dev`. */
  signingKey?: SigningKey
  /** `app/environment`; otherwise STEPWELL_WORKSPACE, or `default/dev`. */
  workspace?: string
  /** Its `encode` and `decode` rewrite what is sent and read here: give it what `serve` gets. The first is the outermost. */
  middleware?: readonly Middleware[]
}

/** An event that the engine has accepted, and the runs that it started. */
export interface SentEvent {
  id: string
  runs: string[]
}

const SEND_RETRY_DELAYS_MS = [100, 300, 1_000, 2_000]
const READ_RETRY_DELAYS_MS = [100, 300]

/** App and engine may start in any order: as long as one of them is not up, sync tries again. */
const SYNC_PATIENCE_MS = 10_000
const SYNC_RETRY_MS = 250

const DEFAULT_RUN_TIMEOUT: Duration = '30s'
/** How long one request waits; well within the time that an answer may take. */
const WAIT_MS = 20_000

/** Before asking again when the engine answered before the time. */
const EARLY_ANSWER_PAUSE_MS = 200

/**
 * A client of one workspace. Its errors are `StepwellError`s.
 * @example
 * const client = new StepwellClient()
 * const [sent] = await client.send({ name: 'user.created', data: { id: 1 } })
 */
export class StepwellClient<Events extends EventMap = UntypedEvents> {
  readonly #api: EngineApi
  readonly #appUrl: string | undefined
  readonly #payloads: Payloads | null
  readonly #newUuid = createUuid7({ now: Date.now, random: randomBytes })

  /** @throws TypeError when an option is malformed */
  constructor(options: ClientOptions = {}) {
    const { appUrl, middleware, ...rest } = options
    this.#payloads = toHooks(middleware, 'the client')?.payloads ?? null
    this.#api = new EngineApi(rest)
    this.#appUrl = appUrl
  }

  /**
   * Sends events. When it returns they are stored, and what they start is started. A send that is not answered is sent
   * again under the same event ids, so that it starts nothing twice.
   * @returns one item per event, in the order given
   * @throws StepwellError `value_not_json`, `event_too_large`, `too_many_events`, or what the engine says
   */
  async send(events: TypedNewEvent<Events> | readonly TypedNewEvent<Events>[]): Promise<SentEvent[]> {
    const list: readonly unknown[] = Array.isArray(events) ? events : [events]
    return list.length === 0 ? [] : this.#send(list, '/v1/events')
  }

  /**
   * Sends one event and waits until the runs that it starts have ended, in one request: for a caller that wants a result. When
   * the time is up first (30 seconds by default), gives the runs as they are then: look at their `state`.
   * @throws StepwellError as `send` does
   */
  async sendAndWait(event: TypedNewEvent<Events>, options: { timeout?: Duration } = {}): Promise<RunView[]> {
    const untilMs = performance.now() + parseDuration(options.timeout ?? DEFAULT_RUN_TIMEOUT)
    const waitMs = Math.ceil(Math.min(WAIT_MS, Math.max(0, untilMs - performance.now())))
    const [sent] = await this.#send([event], `/v1/events?wait=${waitMs}ms`)
    return Promise.all(
      (sent?.runs ?? []).map(id => {
        const run = sent?.ended?.find(ended => ended.id === id)
        const isEnded = run !== undefined && isFinalState(run.state)
        return isEnded
          ? this.#decodeRun(run)
          : this.waitForRun(id, { timeout: Math.max(0, untilMs - performance.now()) })
      }),
    )
  }

  async #send(list: readonly unknown[], path: string): Promise<SendEventsAnswer['events']> {
    const withIds = list.map(event => {
      if (typeof event !== 'object' || event === null || ('id' in event && event.id !== undefined)) return event
      return { ...event, id: encodeId('evt', this.#newUuid()) }
    })
    const body = `{"events":${toEventsText(withIds, 'client.send', this.#payloads)}}`
    const answer = await this.#api.request<SendEventsAnswer>('POST', path, {
      body,
      retryDelaysMs: SEND_RETRY_DELAYS_MS,
    })
    return answer.events
  }

  /**
   * Tells the engine where this app is and which functions it serves. The engine asks the app itself before it answers,
   * so the app has to listen already, or within a few seconds.
   * @param options `url` of this app's endpoint, instead of the client's `appUrl`
   */
  async sync(functions: readonly DurableFunction[], options: { url?: string } = {}): Promise<SyncAnswer> {
    const url = options.url ?? this.#appUrl ?? process.env.STEPWELL_APP_URL
    if (url === undefined || !/^https?:\/\//.test(url) || !URL.canParse(url)) {
      const what = url === undefined ? 'It is not said where this app is' : `The app's address ${url} is no http URL`
      const how =
        'Pass it to the client, new StepwellClient({ appUrl: "http://localhost:3000/api/stepwell" }), or set STEPWELL_APP_URL.'
      throw new StepwellError('body_invalid', `${what}. ${how}`)
    }
    const body = JSON.stringify({
      url,
      functions: [...new Set(functions.flatMap(one => [one, ...one.followers]).map(({ id }) => id))],
    })
    const untilMs = performance.now() + SYNC_PATIENCE_MS
    for (;;) {
      try {
        return await this.#api.request<SyncAnswer>('POST', '/v1/sync', { body, retryDelaysMs: [] })
      } catch (error) {
        if (!isNotUpYet(error) || performance.now() >= untilMs) throw error
      }
      await sleep(SYNC_RETRY_MS)
    }
  }

  /**
   * Sends a message to one run: it goes to a `step.waitForSignal` for that name, and is kept until there is one. When this
   * returns, it is stored. One that is not answered is sent again under the same id, so that it arrives once.
   * @param options `id`: the sender's own; what is sent twice under one id is one message
   * @returns the message's id
   * @throws StepwellError `run_ended`, `run_not_found`, `too_many_signals`, `value_not_json`
   */
  async signal(runId: string, name: string, data?: unknown, options: { id?: string } = {}): Promise<{ id: string }> {
    const { id = encodeId('sig', this.#newUuid()) } = options
    const plain = toJsonText(data, 'The data of client.signal')
    const dataText = this.#payloads?.encodeText(plain ?? '{}', { kind: 'signal', name }) ?? plain
    const head = JSON.stringify({ name, id }).slice(0, -1)
    const body = `${head}${dataText === undefined ? '' : `,"data":${dataText}`}}`
    const path = `/v1/runs/${encodeURIComponent(runId)}/signals`
    return this.#api.request<SignalAnswer>('POST', path, { body, retryDelaysMs: SEND_RETRY_DELAYS_MS })
  }

  /**
   * Asks a run to end as `cancelled`, and with it its children, but for those with `onCancel: 'abandon'`. When this returns, that is recorded; the run
   * ends as soon as what its steps said is to be undone is. Cancelling twice is cancelling once.
   * @param options `reason`: shown with the run, and given to `onCancel`
   * @throws StepwellError `run_ended` when it has completed or failed, `run_not_found`
   */
  async cancel(runId: string, options: { reason?: string } = {}): Promise<CancelAnswer> {
    const path = `/v1/runs/${encodeURIComponent(runId)}/cancel`
    const body = JSON.stringify(options)
    return this.#api.request<CancelAnswer>('POST', path, { body, retryDelaysMs: SEND_RETRY_DELAYS_MS })
  }

  /**
   * A token with which a web page follows one run, and nothing else: hand it to `subscribe` of `@stepwell/sdk/browser`.
   * Whoever has it can read what the run publishes until it expires.
   * @param options `channels`: these only, all when left out; `ttl`: 15 minutes when left out, at most 24 hours
   * @throws StepwellError `run_not_found`, `body_invalid`, `duration_invalid`
   */
  async createStreamToken(
    runId: string,
    options: { channels?: readonly string[]; ttl?: Duration } = {},
  ): Promise<StreamTokenAnswer> {
    const { channels, ttl } = options
    const body = JSON.stringify({
      channels,
      ...(ttl !== undefined && { ttlMs: Math.ceil(readDuration(ttl, 'client.createStreamToken')) }),
    })
    const path = `/v1/runs/${encodeURIComponent(runId)}/tokens`
    return this.#api.request<StreamTokenAnswer>('POST', path, { body, retryDelaysMs: SEND_RETRY_DELAYS_MS })
  }

  /**
   * A run as it is now.
   * @throws StepwellError `run_not_found`
   */
  async getRun(id: string): Promise<RunView> {
    const path = `/v1/runs/${encodeURIComponent(id)}`
    return this.#decodeRun(await this.#api.request<RunView>('GET', path, { retryDelaysMs: READ_RETRY_DELAYS_MS }))
  }

  /**
   * Runs, newest first, a page at a time: pass `next` as `cursor` for the next one.
   * @param filter `tag`: a name and its value; all that are given must hold
   */
  async listRuns(
    filter: {
      state?: RunState
      function?: string
      tag?: readonly [string, string]
      limit?: number
      cursor?: string
    } = {},
  ): Promise<RunList> {
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries(filter)) {
      if (value !== undefined) query.set(name, Array.isArray(value) ? value.join(':') : String(value))
    }
    const path = query.size === 0 ? '/v1/runs' : `/v1/runs?${query}`
    const list = await this.#api.request<RunList>('GET', path, { retryDelaysMs: READ_RETRY_DELAYS_MS })
    return { ...list, runs: list.runs.map(run => this.#decodeRun(run)) }
  }

  /**
   * Everything that reached a run, in order.
   * @throws StepwellError `run_not_found`
   */
  async getJournal(id: string): Promise<JournalEntryView[]> {
    const entries: JournalEntryView[] = []
    const path = `/v1/runs/${encodeURIComponent(id)}/journal`
    let after: number | null = null
    do {
      const query: string = after === null ? '' : `?after=${after}`
      const page: JournalView = await this.#api.request('GET', path + query, { retryDelaysMs: READ_RETRY_DELAYS_MS })
      for (const entry of page.entries) entries.push(this.#payloads?.decodeEntry(entry) ?? entry)
      // A page that does not get further would be asked for without end.
      after = page.next !== null && page.next > (after ?? -1) ? page.next : null
    } while (after !== null)
    return entries
  }

  /**
   * Waits until a run has ended: `completed`, `failed` or `cancelled`. When the time is up first (30 seconds by default),
   * gives the run as it is then: look at its `state`.
   * @throws StepwellError `run_not_found`
   */
  async waitForRun(id: string, options: { timeout?: Duration } = {}): Promise<RunView> {
    const untilMs = performance.now() + parseDuration(options.timeout ?? DEFAULT_RUN_TIMEOUT)
    const path = `/v1/runs/${encodeURIComponent(id)}`
    for (;;) {
      // The engine answers when the run has ended; an engine that stops answers at once.
      const askedAtMs = performance.now()
      const waitMs = Math.ceil(Math.min(WAIT_MS, Math.max(0, untilMs - askedAtMs)))
      const run: RunView = await this.#api.request('GET', `${path}?wait=${waitMs}ms`, {
        retryDelaysMs: SEND_RETRY_DELAYS_MS,
      })
      const nowMs = performance.now()
      if (isFinalState(run.state) || nowMs >= untilMs) return this.#decodeRun(run)
      if (nowMs - askedAtMs < waitMs) await sleep(Math.min(EARLY_ANSWER_PAUSE_MS, untilMs - nowMs))
    }
  }

  #decodeRun(run: RunView): RunView {
    return this.#payloads === null ? run : this.#payloads.decodeRun(run)
  }
}

/** The engine does not listen, or says that the app does not. */
function isNotUpYet(error: unknown): boolean {
  if (!(error instanceof StepwellError)) return false
  const { cause } = error
  // Nobody refused us: we have no key, as `stepwell dev`, which hands it out, has not started yet.
  const isKeyToCome =
    error.code === 'signature_missing' && error.status === undefined && process.env.NODE_ENV !== 'production'
  return (
    isKeyToCome ||
    error.code === 'app_unreachable' ||
    // The engine is starting, or hands over to the next one.
    error.code === 'unavailable' ||
    error.code === 'draining' ||
    (cause instanceof Error && 'code' in cause && cause.code === 'ECONNREFUSED')
  )
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
