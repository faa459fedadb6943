/**
 * The engine double's end of report streams (SPEC.md 8.4). Until a test switches them on, a request for an upgrade meets
 * something that closes the connection, as many proxies do.
 */
import type http from 'node:http'
import type { Duplex } from 'node:stream'
import {
  type Ack,
  encodeFrame,
  type Frame,
  FrameReader,
  newMessageId,
  payloadOf,
  type ReportBatch,
  responseId,
  STREAM_PROTOCOL,
  signHeaders,
} from '@stepwell/protocol'
import { checkSigned } from './signed.ts'

/** How the next frames are answered, instead of with what was recorded. */
export type FrameTrouble =
  /** After the answer to the next frame. */
  | 'late'
  | 'silence'
  | 'silence-after-commit'
  | 'close'
  | 'close-after-commit'
  | 'garbage'
  | 'no-json'
  | 'unsigned'
  | 'wrong-key'
  | 'other-id'
  /** A signed problem document; nothing is recorded. */
  | { status: 413 | 422 | 503; code: string }

/** What stands behind the streams. */
interface Recorder {
  key: string
  /** Called with every batch as it arrives; resolves when it may be recorded. */
  receive: (batch: ReportBatch) => Promise<unknown>
  /** Whether the batch is answered with a problem as a whole. */
  refuses: (batch: ReportBatch) => boolean
  record: (batch: ReportBatch) => Ack[]
}

const OTHER_KEY = `whsec_${Buffer.alloc(32, 9).toString('base64')}`

export class StreamDouble {
  isOn = false
  /** How often an upgrade was asked for. */
  asked = 0
  opened = 0
  /** Every batch that came as a frame, in order. */
  readonly batches: ReportBatch[] = []
  /** Taken from the front, one per frame. */
  readonly troubles: FrameTrouble[] = []
  readonly #sockets = new Set<Duplex>()
  readonly #recorder: Recorder
  #late: (() => void)[] = []

  constructor(server: http.Server, recorder: Recorder) {
    this.#recorder = recorder
    server.on('upgrade', (request, socket) => this.#onUpgrade(request, socket))
  }

  /** Ends the open ones, as an engine that stops does. */
  close(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  #onUpgrade(request: http.IncomingMessage, socket: Duplex): void {
    this.asked += 1
    socket.on('error', () => {})
    if (!this.isOn) return void socket.destroy()
    const { method = '', url = '', headers } = request
    const signed = headers as Record<string, string>
    checkSigned(signed, Buffer.from(payloadOf(method, url, null)), { key: this.#recorder.key })
    if (headers.upgrade !== STREAM_PROTOCOL) throw new Error(`asked for ${headers.upgrade}`)
    this.opened += 1
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ${STREAM_PROTOCOL}\r\n\r\n`)
    const reader = new FrameReader()
    socket.on('data', chunk => {
      for (const frame of reader.read(chunk)) void this.#onFrame(frame, socket)
    })
  }

  async #onFrame({ headers, body }: Frame, socket: Duplex): Promise<void> {
    const id = checkSigned(
      {
        'webhook-id': headers.id ?? '',
        'webhook-timestamp': headers.timestamp ?? '',
        'webhook-signature': headers.signature ?? '',
      },
      body,
      { key: this.#recorder.key },
    )
    const batch = JSON.parse(body.toString()) as ReportBatch
    this.batches.push(batch)
    await this.#recorder.receive(batch)
    const trouble = this.troubles.shift()
    if (trouble === 'silence') return
    if (trouble === 'close') return void socket.destroy()
    if (this.#recorder.refuses(batch)) return this.#answer(socket, id, '{"code":"body_invalid","status":400}')
    if (typeof trouble === 'object') return this.#answer(socket, id, JSON.stringify({ ...trouble, detail: 'no' }))
    const text = JSON.stringify({ kind: 'acks', acks: this.#recorder.record(batch) })
    switch (trouble) {
      case 'silence-after-commit':
        return
      case 'close-after-commit':
        return void socket.destroy()
      case 'garbage':
        return void socket.write(Buffer.alloc(16, 0xff))
      case 'no-json':
        return this.#answer(socket, id, '<html>')
      case 'unsigned':
        return void socket.write(frameOf(`${responseId(id)} ${Math.floor(Date.now() / 1000)} \n${text}`))
      case 'wrong-key':
        return this.#answer(socket, id, text, OTHER_KEY)
      case 'other-id':
        return this.#answer(socket, newMessageId(), text)
      case 'late':
        this.#late.push(() => this.#answer(socket, id, text))
        return
      case undefined:
        this.#answer(socket, id, text)
        for (const answer of this.#late.splice(0)) answer()
    }
  }

  #answer(socket: Duplex, id: string, payload: string, key = this.#recorder.key): void {
    const signed = signHeaders({ id: responseId(id), nowMs: Date.now(), payload, secrets: [key] })
    socket.write(encodeFrame(signed, payload))
  }
}

/** A frame with any content. */
function frameOf(content: string): Buffer {
  const bytes = Buffer.from(content)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}
