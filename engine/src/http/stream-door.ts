/*
 * The one route that web pages of other origins may read: the stream of a run, with a token. EventSource cannot set headers,
 * so the token may be a parameter too.
 */

import { HEADERS } from '@stepwell/protocol'
import type { MiddlewareHandler } from 'hono'
import type { HttpContext, HttpEnv } from './context.ts'

export const STREAM_PATH = '/v1/runs/:id/stream'

const PREFLIGHT_SECONDS = 600
/** No cookies are involved: the token is all, so any origin may have the answer that presents one. */
const ANY_ORIGIN = { 'access-control-allow-origin': '*' }
const PREFLIGHT_HEADERS = {
  ...ANY_ORIGIN,
  'access-control-allow-methods': 'GET',
  'access-control-allow-headers': 'authorization, last-event-id',
  'access-control-max-age': String(PREFLIGHT_SECONDS),
}

/** Answers preflights, notes the token, and lets its bearer's page read the answer. */
export const streamDoor: MiddlewareHandler<HttpEnv> = async (c, next) => {
  if (c.req.method === 'OPTIONS' && c.req.header('access-control-request-method') === 'GET') {
    return new Response(null, { status: 204, headers: { ...PREFLIGHT_HEADERS, 'x-request-id': c.get('requestId') } })
  }
  const token = tokenOf(c)
  if (token === null) return next()
  c.set('streamToken', token)
  await next()
  for (const [name, value] of Object.entries(ANY_ORIGIN)) c.res.headers.set(name, value)
}

function tokenOf(c: HttpContext): string | null {
  // Whoever signs is the app's server; a proxy before the engine may want a bearer of its own.
  if (c.req.header(HEADERS.signature) !== undefined) return null
  const bearer = /^Bearer +(\S+)\s*$/i.exec(c.req.header('authorization') ?? '')
  return bearer?.[1] ?? c.req.query('token') ?? null
}
