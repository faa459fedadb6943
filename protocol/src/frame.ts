/**
 * Signed messages on a report stream (SPEC.md 8.4), both ways. Each is a frame: four bytes that say how many bytes follow
 * (big endian), then `webhook-id webhook-timestamp webhook-signature` and a line feed, then the body.
 */
import { LIMITS } from './limits.ts'
import type { SignatureHeaders, SignedHeaders } from './signature.ts'

/** A message as it was received; nothing of it has been verified. */
export interface Frame {
  headers: SignatureHeaders
  body: Buffer
}

/** The name of the protocol in the `upgrade` header. */
export const STREAM_PROTOCOL = 'stepwell-reports'

const LENGTH_BYTES = 4
const LINE_FEED = 0x0a
/** Id, timestamp, and the signatures of a few keys. */
const HEAD_BYTES_MAX = 4_096

/** A message as bytes. */
export function encodeFrame(headers: SignedHeaders, body: string): Buffer {
  const head = `${headers['webhook-id']} ${headers['webhook-timestamp']} ${headers['webhook-signature']}\n`
  const bodyBytes = Buffer.byteLength(body)
  const frame = Buffer.allocUnsafe(LENGTH_BYTES + head.length + bodyBytes)
  frame.writeUInt32BE(head.length + bodyBytes, 0)
  frame.write(head, LENGTH_BYTES, 'latin1')
  frame.write(body, LENGTH_BYTES + head.length, 'utf8')
  return frame
}

/** Cuts what a connection brings into frames. */
export class FrameReader {
  readonly #bytesMax: number
  #chunks: Buffer[] = []
  #sizeBytes = 0

  /** @param bodyBytesMax the largest body that is taken; that of a request when it is not given */
  constructor(bodyBytesMax: number = LIMITS.bodyBytes) {
    this.#bytesMax = bodyBytesMax + HEAD_BYTES_MAX
  }

  /**
   * The frames that are complete now.
   * @throws RangeError for bytes that are no frame: nothing after them can be read
   */
  read(chunk: Buffer): Frame[] {
    this.#chunks.push(chunk)
    this.#sizeBytes += chunk.length
    const frames: Frame[] = []
    for (let frame = this.#take(); frame !== null; frame = this.#take()) frames.push(frame)
    return frames
  }

  #take(): Frame | null {
    if (this.#sizeBytes < LENGTH_BYTES) return null
    if ((this.#chunks[0] as Buffer).length < LENGTH_BYTES) this.#join()
    const length = (this.#chunks[0] as Buffer).readUInt32BE(0)
    if (length > this.#bytesMax) throw new RangeError(`A frame of ${length} bytes is larger than ${this.#bytesMax}.`)
    const end = LENGTH_BYTES + length
    if (this.#sizeBytes < end) return null
    if ((this.#chunks[0] as Buffer).length < end) this.#join()
    const bytes = this.#chunks[0] as Buffer
    this.#sizeBytes -= end
    if (bytes.length === end) this.#chunks.shift()
    else this.#chunks[0] = bytes.subarray(end)
    return parseFrame(bytes.subarray(LENGTH_BYTES, end))
  }

  #join(): void {
    this.#chunks = [Buffer.concat(this.#chunks)]
  }
}

function parseFrame(bytes: Buffer): Frame {
  const headEnd = bytes.indexOf(LINE_FEED)
  if (headEnd === -1 || headEnd > HEAD_BYTES_MAX) throw new RangeError('A frame has no first line.')
  const head = bytes.toString('latin1', 0, headEnd)
  const idEnd = head.indexOf(' ')
  const timestampEnd = head.indexOf(' ', idEnd + 1)
  if (idEnd === -1 || timestampEnd === -1)
    throw new RangeError('The first line of a frame is not "id timestamp signature".')
  return {
    headers: {
      id: head.slice(0, idEnd),
      timestamp: head.slice(idEnd + 1, timestampEnd),
      signature: head.slice(timestampEnd + 1),
    },
    body: bytes.subarray(headEnd + 1),
  }
}
