/**
 * A connection to the engine that was upgraded for reports (SPEC.md 8.4): signed batches go up as frames, and their
 * acknowledgements come down, without what HTTP costs for each. Only ever an improvement: where none can be opened,
 * because something on the way does not let it through, reports go as requests.
 */
import type net from 'node:net'
import { encodeFrame, type Frame, FrameReader, type SignedHeaders, STREAM_PROTOCOL } from '@stepwell/protocol'
import { connect } from './http-connection.ts'

/** After that long without a report it is not trusted any more: something on the way may have forgotten it. */
const IDLE_MS = 30_000
const OPEN_TIMEOUT_MS = 3_000
const HEAD_BYTES_MAX = 16 * 1024
/** Acknowledgements bring what has arrived for the runs of a batch, which may be larger than the batch. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024
const HEAD_END = '\r\n\r\n'

interface Exchange {
  resolve: (answer: Frame) => void
  reject: (error: Error) => void
  timer: NodeJS.Timeout
}

/** One open stream. Frames may be under way at the same time; each is answered by its id. */
export class ReportStream {
  readonly #socket: net.Socket
  readonly #reader = new FrameReader(ANSWER_BYTES_MAX)
  readonly #exchanges = new Map<string, Exchange>()
  #usableUntilMs = performance.now() + IDLE_MS
  /** Whether anything was ever answered on it. */
  hasAnswered = false

  constructor(socket: net.Socket) {
    this.#socket = socket
    socket.on('data', chunk => this.#onData(chunk))
    socket.on('error', error => this.#fail(error))
    socket.on('close', () => this.#fail(new Error('the report stream was closed')))
    socket.unref()
  }

  get isUsable(): boolean {
    return !this.#socket.destroyed && (this.#exchanges.size > 0 || performance.now() < this.#usableUntilMs)
  }

  /** Sends a message and gives the one that answers it, not verified. Rejects when none comes. */
  exchange(headers: SignedHeaders, body: string, timeoutMs: number): Promise<Frame> {
    return new Promise((resolve, reject) => {
      const id = headers['webhook-id']
      const late = () => this.#fail(new Error(`no answer within ${Math.ceil(timeoutMs)} ms`))
      this.#exchanges.set(`re_${id}`, { resolve, reject, timer: setTimeout(late, timeoutMs) })
      this.#socket.ref()
      this.#socket.write(encodeFrame(headers, body))
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #onData(chunk: Buffer): void {
    try {
      for (const frame of this.#reader.read(chunk)) this.#finish(frame)
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #finish(frame: Frame): void {
    const id = frame.headers.id ?? ''
    const exchange = this.#exchanges.get(id)
    if (exchange === undefined) return
    this.#exchanges.delete(id)
    this.hasAnswered = true
    clearTimeout(exchange.timer)
    if (this.#exchanges.size === 0) {
      this.#usableUntilMs = performance.now() + IDLE_MS
      this.#socket.unref()
    }
    exchange.resolve(frame)
  }

  /** Whoever waits on it asks again elsewhere. */
  #fail(error: Error): void {
    this.close()
    for (const exchange of this.#exchanges.values()) {
      clearTimeout(exchange.timer)
      exchange.reject(error)
    }
    this.#exchanges.clear()
  }
}

/**
 * Asks the engine for a stream; null when it, or something on the way, does not upgrade the connection.
 * @param headers of a signed `GET` of the URL
 */
export function openReportStream(address: string, headers: Record<string, string>): Promise<ReportStream | null> {
  return new Promise(resolve => {
    const url = new URL(address)
    const socket = connect(url)
    let head = ''
    const timer = setTimeout(() => socket.destroy(), OPEN_TIMEOUT_MS)
    timer.unref()
    socket.unref()
    // Errors are followed by a close.
    socket.on('error', () => {})
    socket.once('close', () => {
      clearTimeout(timer)
      resolve(null)
    })
    socket.on('data', function readHead(chunk: Buffer) {
      head += chunk.toString('latin1')
      // The engine says nothing more before it has been sent something.
      if (head.length > HEAD_BYTES_MAX || (head.endsWith(HEAD_END) && !isUpgraded(head))) return void socket.destroy()
      if (!head.endsWith(HEAD_END)) return
      clearTimeout(timer)
      socket.off('data', readHead)
      resolve(new ReportStream(socket))
    })
    const lines = Object.entries({ host: url.host, connection: 'upgrade', upgrade: STREAM_PROTOCOL, ...headers })
    socket.write(
      `GET ${url.pathname}${url.search} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`,
    )
  })
}

function isUpgraded(head: string): boolean {
  return /^HTTP\/1\.1 101 /.test(head) && new RegExp(`\r\nupgrade: ${STREAM_PROTOCOL}\r\n`, 'i').test(head)
}
