/** Requests of node:http, and of what is built on it (express, connect): the raw stream is read here. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { BodyRead, EndpointAnswer, EndpointRequest } from './http-message.ts'

/** A request of node:http in the shape of the endpoint. */
export function fromNode(incoming: IncomingMessage): EndpointRequest {
  return {
    method: incoming.method ?? '',
    header: name => {
      const value = incoming.headers[name]
      return typeof value === 'string' ? value : null
    },
    readBody: maxBytes => readStream(incoming, maxBytes),
  }
}

/** Writes an answer of the endpoint. A connection that is gone is nobody's error. */
export async function toNode(outgoing: ServerResponse, { status, headers, body }: EndpointAnswer): Promise<void> {
  outgoing.on('error', () => {})
  if (typeof body !== 'string') {
    outgoing.writeHead(status, headers)
    // Nobody reads slowly: what is written are a few reports per turn.
    for await (const chunk of body) if (!outgoing.destroyed) outgoing.write(chunk)
    outgoing.end()
    return
  }
  // The rest of a body that is too large is not worth receiving.
  const closing = status === 413 ? { connection: 'close' } : {}
  outgoing.writeHead(status, { ...headers, ...closing, 'content-length': Buffer.byteLength(body) })
  outgoing.end(body)
}

/** Bodies that a middleware has read: `express.raw()` and some hosts keep the raw bytes. */
function findKeptBytes(incoming: IncomingMessage & { body?: unknown; rawBody?: unknown }): Uint8Array | null {
  if (incoming.rawBody instanceof Uint8Array) return incoming.rawBody
  return incoming.body instanceof Uint8Array ? incoming.body : null
}

async function readStream(incoming: IncomingMessage, maxBytes: number): Promise<BodyRead> {
  const kept = findKeptBytes(incoming)
  if (kept !== null) return { kind: 'bytes', bytes: kept }
  if (incoming.readableDidRead || incoming.readableEnded) return { kind: 'consumed' }
  if (Number(incoming.headers['content-length'] ?? 0) > maxBytes) return { kind: 'too_large' }
  return new Promise(resolve => {
    const chunks: Buffer[] = []
    let sizeBytes = 0
    incoming.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length
      if (sizeBytes <= maxBytes) {
        chunks.push(chunk)
        return
      }
      incoming.pause()
      resolve({ kind: 'too_large' })
    })
    incoming.on('end', () => {
      const bytes = chunks.length === 1 ? (chunks[0] ?? Buffer.alloc(0)) : Buffer.concat(chunks)
      resolve({ kind: 'bytes', bytes })
    })
    incoming.on('error', () => resolve({ kind: 'broken' }))
    incoming.on('close', () => resolve({ kind: 'broken' }))
  })
}
