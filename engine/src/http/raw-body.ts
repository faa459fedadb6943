/*
 * Bodies as bytes: they are verified as they came, and parsed once, after that. Never more than the limit is read.
 */
import { isUtf8 } from 'node:buffer'
import { LIMITS } from '@stepwell/protocol'
import { EngineError } from '../core/errors.ts'
import { nestsDeeperThan } from '../core/json-depth.ts'

const EXCERPT_CHARS = 160

/** The body's raw bytes; empty for a request without one. Throws `body_too_large`. */
export async function readBody(request: Request): Promise<Buffer> {
  if (request.method === 'GET' || request.method === 'HEAD') return Buffer.alloc(0)
  const declared = request.headers.get('content-length')
  if (declared !== null) {
    if (!(Number(declared) <= LIMITS.bodyBytes)) throw tooLarge()
    // The parser of HTTP hands on no more bytes than were declared.
    const bytes = Buffer.from(await request.arrayBuffer().catch(interrupted))
    if (bytes.length > LIMITS.bodyBytes) throw tooLarge()
    return bytes
  }
  return request.body === null ? Buffer.alloc(0) : readStream(request.body)
}

/** A body of unknown length: counted while it comes in. */
async function readStream(stream: ReadableStream<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let sizeBytes = 0
  const reader = stream.getReader()
  for (;;) {
    const { done, value } = await reader.read().catch(interrupted)
    if (done) return Buffer.concat(chunks)
    sizeBytes += value.length
    if (sizeBytes > LIMITS.bodyBytes) {
      // The answer does not wait for the rest of the body.
      reader.cancel().catch(() => {})
      throw tooLarge()
    }
    chunks.push(value)
  }
}

/** The body as JSON. The content type does not matter. Throws `body_invalid`. */
export function parseJson(bytes: Buffer): unknown {
  if (bytes.length === 0) throw invalid('There is no body. Send JSON.')
  if (!isUtf8(bytes)) throw invalid('The body is not UTF-8. Send JSON in UTF-8.')
  if (nestsDeeperThan(bytes, LIMITS.jsonDepth))
    throw invalid(`The body nests deeper than ${LIMITS.jsonDepth} levels. Send it flatter.`)
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    const reason = error instanceof Error ? error.message.slice(0, EXCERPT_CHARS) : ''
    throw invalid(`The body is not JSON: ${reason}. Send JSON in UTF-8.`)
  }
}

/** `body_invalid` with the first problems, each with its path in the body. */
export function invalidBody(what: string, errors: { path: string; message: string }[]): EngineError {
  const [first] = errors
  const where =
    first === undefined
      ? ''
      : ` ${first.path === '' ? 'It' : `"${first.path}"`} ${first.message.replace(/[^.?]$/, '$&.')}`
  return new EngineError('body_invalid', 400, `The body is not ${what}.${where} See "errors".`, { errors })
}

function invalid(message: string): EngineError {
  return new EngineError('body_invalid', 400, message, { errors: [{ path: '', message }] })
}

function tooLarge(): EngineError {
  return new EngineError(
    'body_too_large',
    413,
    `The body is larger than ${LIMITS.bodyBytes} bytes. Send it in several requests.`,
    { limitBytes: LIMITS.bodyBytes },
  )
}

function interrupted(cause: unknown): never {
  throw new EngineError('body_invalid', 400, 'The body ended before it was complete. Send it again.', {}, { cause })
}
