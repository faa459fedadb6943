/** One connection to the engine: one exchange at a time, kept open in between. */
import net from 'node:net'
import tls from 'node:tls'
import { AnswerReader, type HttpAnswer } from './http-answer.ts'

/** A connection that was kept open was gone before a byte of the answer came. */
export class ConnectionLost extends Error {}

/** Servers that do not say for how long they keep idle connections do so for 5 seconds, as Node does. */
const DEFAULT_IDLE_MS = 4_000

interface Exchange {
  reader: AnswerReader
  resolve: (answer: HttpAnswer) => void
  reject: (error: Error) => void
  timer: NodeJS.Timeout
}

/** A socket and the exchange that it is busy with. */
export class HttpConnection {
  readonly origin: string
  readonly #socket: net.Socket
  #exchange: Exchange | null = null
  #exchangeCount = 0
  #usableUntilMs = 0

  constructor(url: URL) {
    this.origin = url.origin
    this.#socket = connect(url)
    this.#socket.on('data', chunk => this.#onData(chunk))
    this.#socket.on('error', error => this.#fail(error))
    this.#socket.on('close', () => this.#onClose())
  }

  /** Whether another exchange may be tried on it. */
  get isUsable(): boolean {
    return !this.#socket.destroyed && performance.now() < this.#usableUntilMs
  }

  /**
   * Sends the text of a request and reads the answer. One at a time.
   * @throws ConnectionLost when this was not the first exchange, and the other side had closed the connection
   */
  exchange(text: string, timeoutMs: number): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#fail(new Error(`no answer within ${Math.ceil(timeoutMs)} ms`)), timeoutMs)
      this.#exchange = { reader: new AnswerReader(), resolve, reject, timer }
      this.#exchangeCount += 1
      this.#socket.ref()
      this.#socket.write(text)
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #onData(chunk: Buffer): void {
    if (this.#exchange === null) {
      // Nothing was asked: whatever this is, it must not be taken for the next answer.
      this.close()
      return
    }
    try {
      const answer = this.#exchange.reader.read(chunk)
      if (answer !== null) this.#finish(answer)
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #finish(answer: HttpAnswer): void {
    const exchange = this.#exchange
    if (exchange === null) return
    this.#exchange = null
    clearTimeout(exchange.timer)
    this.#usableUntilMs = exchange.reader.keepsOpen ? performance.now() + idleMs(answer) : 0
    if (!exchange.reader.keepsOpen) this.close()
    this.#socket.unref()
    exchange.resolve(answer)
  }

  #fail(error: Error): void {
    const exchange = this.#exchange
    this.#exchange = null
    this.close()
    if (exchange === null) return
    clearTimeout(exchange.timer)
    const isStale = this.#exchangeCount > 1 && !exchange.reader.hasStarted && isReset(error)
    exchange.reject(isStale ? new ConnectionLost(error.message, { cause: error }) : error)
  }

  #onClose(): void {
    if (this.#exchange === null) return
    const answer = this.#exchange.reader.end()
    if (answer !== null) this.#finish(answer)
    else
      this.#fail(
        Object.assign(new Error('the connection was closed before the end of the answer'), { code: 'ECONNRESET' }),
      )
  }
}

/** A socket to the host of a URL, with TLS where the URL says so. */
export function connect(url: URL): net.Socket {
  // URL keeps the brackets of an IPv6 address.
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (url.protocol === 'http:') return net.connect({ host, port: Number(url.port || 80), noDelay: true })
  const servername = net.isIP(host) === 0 ? { servername: host } : {}
  const socket = tls.connect({ host, port: Number(url.port || 443), ALPNProtocols: ['http/1.1'], ...servername })
  return socket.setNoDelay(true)
}

/** A second less than the server says, so that it does not close while a request is on its way. */
function idleMs({ headers }: HttpAnswer): number {
  const seconds = /timeout=(\d+)/.exec(headers['keep-alive'] ?? '')?.[1]
  return seconds === undefined ? DEFAULT_IDLE_MS : Math.max(0, Number(seconds) - 1) * 1_000
}

function isReset(error: Error): boolean {
  return 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
}
