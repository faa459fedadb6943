/** A small HTTP client on kept-alive connections: about half the cost of `fetch` for short messages. */
import http from 'node:http'
import https from 'node:https'

/** A request. The body is sent as it is. */
export interface HttpRequest {
  method: 'GET' | 'POST'
  url: string
  headers: Record<string, string>
  body: string | null
  /** From the call to the last byte of the answer. */
  timeoutMs: number
}

/** An answer; redirects are answers too, nobody follows them. */
export interface HttpAnswer {
  status: number
  headers: http.IncomingHttpHeaders
  body: Buffer
}

/** More than any answer of the engine: a journal may be 32 MiB. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024

/** Keeps connections open between requests; idle ones do not keep the process alive. */
export class HttpClient {
  readonly #agents = {
    'http:': new http.Agent({ keepAlive: true }),
    'https:': new https.Agent({ keepAlive: true }),
  }

  /**
   * Sends a request and reads the whole answer.
   * @throws Error of node:http with its `code` (`ECONNREFUSED`...), or TypeError for a URL that is not http or https
   */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    try {
      return await this.#sendOnce(request)
    } catch (error) {
      // The other side closed the idle connection while the request was on its way into it: nobody has read it.
      if (error instanceof StaleConnectionError) return this.#sendOnce(request)
      throw error
    }
  }

  #sendOnce(request: HttpRequest): Promise<HttpAnswer> {
    const { method, url, body, timeoutMs } = request
    const { protocol } = new URL(url)
    if (protocol !== 'http:' && protocol !== 'https:') {
      return Promise.reject(new TypeError(`${url} is no http or https address.`))
    }
    const headers: Record<string, string | number> =
      body === null ? request.headers : { ...request.headers, 'content-length': Buffer.byteLength(body) }
    return new Promise((resolve, reject) => {
      const { request: start } = protocol === 'https:' ? https : http
      const outgoing = start(url, { method, headers, agent: this.#agents[protocol] })
      const timer = setTimeout(() => outgoing.destroy(new Error(`No answer within ${timeoutMs} ms.`)), timeoutMs)
      const fail = (error: Error) => {
        clearTimeout(timer)
        reject(isStaleConnection(outgoing, error) ? new StaleConnectionError('', { cause: error }) : error)
      }
      outgoing.on('error', fail)
      outgoing.on('response', incoming => {
        readAnswer(incoming).then(answer => {
          clearTimeout(timer)
          resolve(answer)
        }, fail)
      })
      outgoing.end(body ?? undefined)
    })
  }
}

class StaleConnectionError extends Error {}

function isStaleConnection(outgoing: http.ClientRequest, error: Error): boolean {
  return outgoing.reusedSocket && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
}

function readAnswer(incoming: http.IncomingMessage): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let sizeBytes = 0
    incoming.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length
      if (sizeBytes > MAX_ANSWER_BYTES)
        incoming.destroy(new Error(`The answer has more than ${MAX_ANSWER_BYTES} bytes.`))
      else chunks.push(chunk)
    })
    incoming.on('error', reject)
    incoming.on('aborted', () => reject(new Error('The connection was closed before the end of the answer.')))
    incoming.on('end', () => {
      const body = chunks.length === 1 ? (chunks[0] ?? Buffer.alloc(0)) : Buffer.concat(chunks)
      resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body })
    })
  })
}
