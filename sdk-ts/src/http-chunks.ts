/** More than any answer of the engine: a journal may be 32 MiB. */
export const MAX_BODY_BYTES = 64 * 1024 * 1024

/** A line of a chunk or a trailer. */
const MAX_LINE_BYTES = 16 * 1024

/** Reads a body in the chunked transfer coding (RFC 9112, 7.1), as its bytes come. Trailers are skipped. */
export class ChunkedBody {
  #parts: Buffer[] = []
  #sizeBytes = 0
  /** The beginning of a line whose end has not come. */
  #line = ''
  /** Bytes of the current chunk that have not come, and the line break after it; null between chunks. */
  #leftBytes: number | null = null
  #isLast = false

  /** The body, as far as it has come. */
  get body(): Buffer {
    return Buffer.concat(this.#parts)
  }

  /**
   * Takes the next bytes.
   * @returns how many of them are left over after the end of the body, or null when the end has not come
   * @throws Error when this is no chunked body, or too large
   */
  read(bytes: Buffer): number | null {
    let at = 0
    while (at < bytes.length) {
      if (this.#leftBytes !== null) {
        at = this.#readData(bytes, at, this.#leftBytes)
        continue
      }
      const end = bytes.indexOf('\n', at)
      this.#line += bytes.toString('latin1', at, end === -1 ? bytes.length : end)
      if (this.#line.length > MAX_LINE_BYTES) throw new Error('the answer has a malformed chunk')
      if (end === -1) return null
      at = end + 1
      if (this.#readLine()) return bytes.length - at
    }
    return null
  }

  #readData(bytes: Buffer, at: number, leftBytes: number): number {
    const end = Math.min(bytes.length, at + leftBytes)
    const dataEnd = Math.min(end, at + leftBytes - LINE_BREAK_BYTES)
    if (dataEnd > at) this.#parts.push(bytes.subarray(at, dataEnd))
    this.#leftBytes = leftBytes === end - at ? null : leftBytes - (end - at)
    return end
  }

  /** Takes a line of a chunk's size or of the trailer. True when the body has ended. */
  #readLine(): boolean {
    const line = this.#line.replace(/\r$/, '')
    this.#line = ''
    if (this.#isLast) return line === ''
    const size = /^([0-9A-Fa-f]{1,8})(?:[ \t]*;.*)?$/.exec(line)?.[1]
    if (size === undefined) throw new Error('the answer has a malformed chunk')
    const sizeBytes = Number.parseInt(size, 16)
    this.#sizeBytes += sizeBytes
    if (this.#sizeBytes > MAX_BODY_BYTES) throw new Error(`the answer has more than ${MAX_BODY_BYTES} bytes`)
    this.#isLast = sizeBytes === 0
    if (!this.#isLast) this.#leftBytes = sizeBytes + LINE_BREAK_BYTES
    return false
  }
}

const LINE_BREAK_BYTES = 2
