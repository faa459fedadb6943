import { HEADERS, type SignatureHeaders } from '@stepwell/protocol'

/** The headers that sign an answer; `headers` have names in lower case. */
export function signatureHeadersOf(headers: Record<string, string>): SignatureHeaders {
  return { id: headers[HEADERS.id], timestamp: headers[HEADERS.timestamp], signature: headers[HEADERS.signature] }
}
