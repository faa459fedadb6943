import { responseId, signHeaders } from '@stepwell/protocol'
import type { HttpContext } from './context.ts'

/** Answers with JSON, signed when the request was (SPEC.md 2.5). The only place where answers are made. */
export function answer(c: HttpContext, status: number, value: unknown, headers: Record<string, string> = {}): Response {
  const payload = JSON.stringify(value)
  const signedId = c.get('signedId')
  const signature =
    signedId === undefined
      ? {}
      : signHeaders({ id: responseId(signedId), nowMs: Date.now(), payload, secrets: c.get('catalog').keys })
  return new Response(payload, {
    status,
    headers: {
      'content-type': 'application/json',
      // A shared cache would hand out one workspace's data, and answers that belong to other requests.
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-request-id': c.get('requestId'),
      ...headers,
      ...signature,
    },
  })
}
