/**
 * A small HTTP/1.1 client on kept-alive connections, over net and tls. Each report is one exchange, and node:http costs
 * three times the CPU of one and twice its time (measured: 88 and 26 us, 165 and 75 us). It does what the protocol
 * needs: requests with or without a text as body, answers read as a whole, no redirects.
 */
import type { HttpAnswer } from './http-answer.ts'
import { ConnectionLost, HttpConnection } from './http-connection.ts'

export type { HttpAnswer } from './http-answer.ts'

/** A request. The body is sent as it is. */
export interface HttpRequest {
  method: 'GET' | 'POST'
  url: string
  headers: Record<string, string>
  body: string | null
  /** From the call to the last byte of the answer. */
  timeoutMs: number
}

/** Idle connections per origin; more are closed. */
const MAX_IDLE = 16

/** Keeps connections open between requests; idle ones do not keep the process alive. */
export class HttpClient {
  readonly #idle = new Map<string, HttpConnection[]>()

  /**
   * Sends a request and reads the whole answer.
   * @throws Error of node:net or node:tls with its `code` (`ECONNREFUSED`...), or TypeError for a URL or header that is malformed
   */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    const url = new URL(request.url)
    if (url.protocol !== 'http:' && url.protocol !== 'https:') {
      throw new TypeError(`${request.url} is no http or https address.`)
    }
    const text = writeRequest(request, url)
    const startedAtMs = performance.now()
    const kept = this.#takeIdle(url.origin)
    if (kept !== null) {
      try {
        return await this.#exchange(kept, text, request.timeoutMs)
      } catch (error) {
        // The other side closed the idle connection while the request was on its way: nobody has read it.
        if (!(error instanceof ConnectionLost)) throw error
      }
    }
    const leftMs = request.timeoutMs - (performance.now() - startedAtMs)
    return this.#exchange(new HttpConnection(url), text, Math.max(1, leftMs))
  }

  async #exchange(connection: HttpConnection, text: string, timeoutMs: number): Promise<HttpAnswer> {
    const answer = await connection.exchange(text, timeoutMs)
    const idle = this.#idle.get(connection.origin) ?? []
    if (!connection.isUsable || idle.length >= MAX_IDLE) {
      connection.close()
      return answer
    }
    idle.push(connection)
    this.#idle.set(connection.origin, idle)
    return answer
  }

  #takeIdle(origin: string): HttpConnection | null {
    const idle = this.#idle.get(origin)
    // The one used last: the others grow old and are closed by the other side.
    for (let connection = idle?.pop(); connection !== undefined; connection = idle?.pop()) {
      if (connection.isUsable) return connection
      connection.close()
    }
    this.#idle.delete(origin)
    return null
  }
}

/** Visible ASCII and spaces: nothing that ends a line, nothing that two sides decode differently. */
const HEADER_VALUE = /^[\x20-\x7e]*$/

function writeRequest({ method, headers, body }: HttpRequest, url: URL): string {
  let text = `${method} ${url.pathname}${url.search} HTTP/1.1\r\nhost: ${url.host}\r\n`
  for (const [name, value] of Object.entries(headers)) {
    if (!HEADER_VALUE.test(value)) throw new TypeError(`The header ${name} has a character in it that is not ASCII.`)
    text += `${name}: ${value}\r\n`
  }
  if (body === null) return `${text}\r\n`
  return `${text}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
}
