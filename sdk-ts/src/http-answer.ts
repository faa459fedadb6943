/** Reads an HTTP/1.1 answer from the bytes of a connection: RFC 9112, as far as an answer to GET and POST can go. */

import { ChunkedBody, MAX_BODY_BYTES } from './http-chunks.ts'

/** An answer as a whole. Redirects are answers too, nobody follows them. */
export interface HttpAnswer {
  status: number
  /** Names in lower case; of a header that comes twice, the last. */
  headers: Record<string, string>
  body: Buffer
}

const MAX_HEAD_BYTES = 64 * 1024

interface Head {
  status: number
  headers: Record<string, string>
  isOldVersion: boolean
}

/** Takes chunks until the answer is whole. */
export class AnswerReader {
  /** The connection may be used again after this answer. */
  keepsOpen = false
  /** A byte of the answer has come. */
  hasStarted = false
  #head: Head | null = null
  #chunked: ChunkedBody | null = null
  #chunks: Buffer[] = []
  /** Of the chunks: what was not taken apart yet. */
  #sizeBytes = 0

  /**
   * Takes the next bytes.
   * @returns the answer when it is whole
   * @throws Error when this is no HTTP, or too large
   */
  read(chunk: Buffer): HttpAnswer | null {
    this.hasStarted = true
    this.#chunks.push(chunk)
    this.#sizeBytes += chunk.length
    if (this.#sizeBytes > MAX_BODY_BYTES) throw new Error(`the answer has more than ${MAX_BODY_BYTES} bytes`)
    this.#head ??= this.#readHead()
    return this.#head === null ? null : this.#readBody(this.#head)
  }

  /** The connection was closed. Gives an answer that ends in this way. */
  end(): HttpAnswer | null {
    if (this.#head === null || lengthOf(this.#head) !== null || isChunked(this.#head)) return null
    const { status, headers } = this.#head
    return { status, headers, body: this.#joined() }
  }

  #readHead(): Head | null {
    for (;;) {
      const bytes = this.#joined()
      const end = bytes.indexOf('\r\n\r\n')
      if (end === -1) {
        if (bytes.length > MAX_HEAD_BYTES) throw new Error('the head of the answer is too large')
        return null
      }
      const head = parseHead(bytes.toString('latin1', 0, end))
      this.#replace(bytes.subarray(end + 4))
      // 100 Continue, 103 Early Hints: the answer itself follows.
      if (head.status >= 200) return head
    }
  }

  #readBody(head: Head): HttpAnswer | null {
    if (isChunked(head)) {
      this.#chunked ??= new ChunkedBody()
      const left = this.#chunked.read(this.#joined())
      this.#replace(Buffer.alloc(0))
      return left === null ? null : this.#finish(head, this.#chunked.body, left)
    }
    const lengthBytes = head.status === 204 || head.status === 304 ? 0 : lengthOf(head)
    if (lengthBytes === null || this.#sizeBytes < lengthBytes) return null
    const bytes = this.#joined()
    return this.#finish(head, bytes.subarray(0, lengthBytes), bytes.length - lengthBytes)
  }

  #finish(head: Head, body: Buffer, leftBytes: number): HttpAnswer {
    const { status, headers, isOldVersion } = head
    // What is left over belongs to no request of ours.
    this.keepsOpen = leftBytes === 0 && !isOldVersion && headers.connection?.toLowerCase() !== 'close'
    return { status, headers, body }
  }

  #joined(): Buffer {
    const [only] = this.#chunks
    const bytes = this.#chunks.length === 1 && only !== undefined ? only : Buffer.concat(this.#chunks)
    this.#replace(bytes)
    return bytes
  }

  #replace(bytes: Buffer): void {
    this.#chunks = [bytes]
    this.#sizeBytes = bytes.length
  }
}

function parseHead(text: string): Head {
  const [first = '', ...lines] = text.split('\r\n')
  const status = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: |$)/.exec(first)
  if (status === null) throw new Error('the answer is no HTTP/1.1')
  const headers: Record<string, string> = {}
  for (const line of lines) {
    const colon = line.indexOf(':')
    if (colon < 1) throw new Error('the answer has a malformed header')
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim()
  }
  return { status: Number(status[2]), headers, isOldVersion: status[1] === '0' }
}

function isChunked({ headers }: Head): boolean {
  return headers['transfer-encoding']?.toLowerCase() === 'chunked'
}

/** Null when the body lasts until the connection is closed. */
function lengthOf({ headers }: Head): number | null {
  const length = headers['content-length']
  if (length === undefined) return null
  if (!/^\d{1,12}$/.test(length)) throw new Error('the answer has a malformed content-length')
  return Number(length)
}
