import type { IncomingHttpHeaders } from 'node:http'
import { HEADERS, type SignatureHeaders } from '@stepwell/protocol'

/** The headers that sign a message, as node:http has received them. */
export function signatureHeadersOf(headers: IncomingHttpHeaders): SignatureHeaders {
  const read = (name: string) => {
    const value = headers[name]
    return typeof value === 'string' ? value : null
  }
  return { id: read(HEADERS.id), timestamp: read(HEADERS.timestamp), signature: read(HEADERS.signature) }
}
