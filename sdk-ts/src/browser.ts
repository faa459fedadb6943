/**
 * `@stepwell/sdk/browser`: a web page follows its run. Nothing of node is in here, and no key: the page has a token, which
 * the app's server made with `client.createStreamToken`.
 */
import type { ErrorCode, RunState } from '@stepwell/protocol'
import { createEventReader, type StreamEvent } from './event-stream.ts'

/** One message of a run. */
export interface RunMessage {
  /** From 1 without gaps, over all channels of the run: the cursor with which to go on. */
  id: number
  channel: string
  /** As JSON brought it. */
  // biome-ignore lint/suspicious/noExplicitAny: as for untyped events, `unknown` would make every page cast.
  data: any
}

/** What to follow, and where. */
export interface SubscribeOptions {
  /** The engine's address, as the browser reaches it: `https://stepwell.example`. */
  url: string
  /** From `client.createStreamToken`; or a function that fetches one from the app's server, called again when it has expired. */
  token: string | (() => string | Promise<string>)
  /** `run_…` */
  run: string
  /** These only; all that the token is for when left out. */
  channels?: readonly string[]
  /** The id of the last message that the page has; all messages from the first on when left out. */
  after?: number
  /** Ends the subscription, as `close` does. */
  signal?: AbortSignal
  /** Instead of the global one. */
  fetch?: typeof fetch
}

/** The messages of a run, in order, each once. Iterate over it once; it ends when the run has ended, and when it is closed. */
export interface Subscription extends AsyncIterable<RunMessage> {
  /** The id of the last message that was given. */
  readonly cursor: number
  /** How the run ended; null until then. */
  readonly state: RunState | null
  close(): void
}

/** The engine refuses the subscription, and would refuse it again. */
export class SubscribeError extends Error {
  override readonly name = 'SubscribeError'
  /** Such as `stream_token_expired`; null when something else than an engine answered. */
  readonly code: ErrorCode | null
  readonly status: number

  constructor(message: string, status: number, code: ErrorCode | null) {
    super(message)
    this.status = status
    this.code = code
  }
}

const RETRY_MIN_MS = 250
const RETRY_MAX_MS = 10_000
/** The engine says something every 15 seconds: a connection that is silent for longer is dead. */
const SILENCE_MS = 40_000

/**
 * Follows a run. A connection that is lost is made again from the last message, for as long as it takes.
 * @throws SubscribeError while iterating, when the engine refuses: the token, the channel, the run
 * @example
 * for await (const { data } of subscribe({ url, token, run, channels: ['progress'] })) show(data.percent)
 */
export function subscribe(options: SubscribeOptions): Subscription {
  const stop = new AbortController()
  const progress: Progress = { cursor: options.after ?? 0, state: null }
  const messages = follow(options, progress, stop.signal)
  const close = () => stop.abort()
  if (options.signal?.aborted) close()
  options.signal?.addEventListener('abort', close, { once: true, signal: stop.signal })
  return {
    get cursor() {
      return progress.cursor
    },
    get state() {
      return progress.state
    },
    close,
    async *[Symbol.asyncIterator]() {
      try {
        yield* messages
      } finally {
        // Whoever leaves the loop wants no more.
        close()
      }
    },
  }
}

interface Progress {
  cursor: number
  state: RunState | null
}

async function* follow(
  options: SubscribeOptions,
  progress: Progress,
  signal: AbortSignal,
): AsyncGenerator<RunMessage, void> {
  let failures = 0
  let token = await tokenOf(options)
  let isTokenFresh = true
  while (!signal.aborted) {
    const connection = new Connection(signal)
    try {
      const answer = await connection.open(options, token, progress.cursor)
      if (answer.status === 401 && typeof options.token === 'function' && !isTokenFresh) {
        token = await tokenOf(options)
        isTokenFresh = true
        continue
      }
      if (isFinal(answer.status)) throw await refusalOf(answer)
      isTokenFresh = false
      for await (const event of answer.ok ? connection.events(answer) : []) {
        failures = 0
        if (event.event === 'stepwell.end') {
          progress.state = (JSON.parse(event.data) as { state: RunState }).state
          return
        }
        const id = Number(event.id)
        // What is repeated on the way is not given twice.
        if (!(id > progress.cursor)) continue
        progress.cursor = id
        yield { id, channel: event.event, data: JSON.parse(event.data) }
      }
    } catch (error) {
      if (signal.aborted) return
      if (error instanceof SubscribeError) throw error
      isTokenFresh = false
    } finally {
      connection.close()
    }
    await pause(Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** failures) * (0.5 + Math.random() / 2), signal)
    failures += 1
  }
}

async function tokenOf({ token }: SubscribeOptions): Promise<string> {
  return typeof token === 'function' ? token() : token
}

/** Asking again would not help. Too many requests, and an engine that is busy or gone, pass. */
function isFinal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429
}

async function refusalOf(answer: Response): Promise<SubscribeError> {
  const problem = (await answer.json().catch(() => null)) as { code?: ErrorCode; detail?: string } | null
  const message = problem?.detail ?? `${answer.url} answered ${answer.status}, and not as an engine does.`
  return new SubscribeError(message, answer.status, problem?.code ?? null)
}

/** One request, and its end when it is closed or silent for too long. */
class Connection {
  readonly #abort = new AbortController()
  readonly #signal: AbortSignal
  #timer: ReturnType<typeof setTimeout> | undefined
  readonly close = () => {
    clearTimeout(this.#timer)
    this.#signal.removeEventListener('abort', this.close)
    this.#abort.abort()
  }

  constructor(signal: AbortSignal) {
    this.#signal = signal
    signal.addEventListener('abort', this.close)
    if (signal.aborted) this.close()
  }

  open(options: SubscribeOptions, token: string, after: number): Promise<Response> {
    const { url, run, channels = [] } = options
    const query = new URLSearchParams({ after: String(after) })
    for (const channel of channels) query.append('channel', channel)
    this.#hear()
    return (options.fetch ?? fetch)(`${url.replace(/\/+$/, '')}/v1/runs/${encodeURIComponent(run)}/stream?${query}`, {
      headers: { authorization: `Bearer ${token}` },
      credentials: 'omit',
      signal: this.#abort.signal,
    })
  }

  async *events(answer: Response): AsyncGenerator<StreamEvent, void> {
    const read = createEventReader()
    const decoder = new TextDecoder()
    const reader = answer.body?.getReader()
    while (reader !== undefined) {
      this.#hear()
      const { done, value } = await reader.read()
      if (done) return
      yield* read(decoder.decode(value, { stream: true }))
    }
  }

  /** A sign of life. */
  #hear(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(this.close, SILENCE_MS)
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
    if (signal.aborted) done()
  })
}
