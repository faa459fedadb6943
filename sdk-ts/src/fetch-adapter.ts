/** Requests of the fetch standard: hono, Next.js route handlers, Bun, Deno. */
import type { BodyRead, EndpointAnswer, EndpointRequest } from './http-message.ts'

/** A Request in the shape of the endpoint. */
export function fromFetch(request: Request): EndpointRequest {
  return {
    method: request.method,
    header: name => request.headers.get(name),
    readBody: maxBytes => readBody(request, maxBytes),
  }
}

/** An answer of the endpoint as a Response. */
export function toFetch({ status, headers, body }: EndpointAnswer): Response {
  return new Response(typeof body === 'string' ? body : toStream(body), { status, headers })
}

function toStream(parts: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const iterator = parts[Symbol.asyncIterator]()
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await iterator.next()
      if (done) controller.close()
      else controller.enqueue(value)
    },
  })
}

async function readBody(request: Request, maxBytes: number): Promise<BodyRead> {
  if (request.bodyUsed) return { kind: 'consumed' }
  const declared = request.headers.get('content-length')
  if (declared !== null && Number(declared) > maxBytes) return { kind: 'too_large' }
  try {
    // A declared length is what the server lets through at most; without one the stream is counted.
    if (declared !== null || request.body === null) {
      return { kind: 'bytes', bytes: new Uint8Array(await request.arrayBuffer()) }
    }
    return await readCounted(request.body, maxBytes)
  } catch {
    return { kind: 'broken' }
  }
}

async function readCounted(body: ReadableStream<Uint8Array>, maxBytes: number): Promise<BodyRead> {
  const chunks: Uint8Array[] = []
  let sizeBytes = 0
  const reader = body.getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return { kind: 'bytes', bytes: Buffer.concat(chunks) }
    sizeBytes += value.length
    if (sizeBytes > maxBytes) {
      await reader.cancel()
      return { kind: 'too_large' }
    }
    chunks.push(value)
  }
}
