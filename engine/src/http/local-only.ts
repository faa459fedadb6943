/*
 * The dev engine takes unsigned requests, so no web page may reach it. A page can send requests to 127.0.0.1 from its
 * visitor's browser, and with a name of its own that resolves to 127.0.0.1 (DNS rebinding) it could read the answers
 * too. Browsers say where a request comes from (Origin, Sec-Fetch-Site) and which name they looked up (Host): all three
 * must be of this machine. Answers carry no CORS headers, but for streams that are asked for with a token: the app's own page
 * has one, whatever its origin, and nothing is done here for a token that is not valid.
 */
import type { MiddlewareHandler } from 'hono'
import { EngineError } from '../core/errors.ts'
import type { HttpContext, HttpEnv } from './context.ts'

const LOOPBACK_HOST = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?$/i
const LOOPBACK_ORIGIN = /^https?:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?$/i
const SHOWN_CHARS = 100

/** Refuses what a web page could have sent. */
export const localOnly: MiddlewareHandler<HttpEnv> = async (c, next) => {
  const host = c.req.header('host') ?? new URL(c.req.url).host
  if (!LOOPBACK_HOST.test(host)) {
    throw new EngineError(
      'host_not_allowed',
      403,
      `A dev engine answers to localhost, 127.0.0.1 and [::1] only, not to ${show(host)}. Use one of these names, or "stepwell start" for an engine that others can reach.`,
    )
  }
  if (c.get('streamToken') !== undefined) return next()
  const origin = c.req.header('origin')
  if ((origin !== undefined && !LOOPBACK_ORIGIN.test(origin)) || c.req.header('sec-fetch-site') === 'cross-site') {
    throw new EngineError(
      'origin_not_allowed',
      403,
      `A dev engine takes no requests from web pages of other sites (${show(origin ?? 'cross-site')}). Send them from the app's server.`,
    )
  }
  await next()
}

/** Whether the other end of the connection is on this machine. */
export function isLoopbackPeer(c: HttpContext): boolean {
  const address = c.env?.incoming?.socket.remoteAddress ?? ''
  return address === '::1' || /^(?:::ffff:)?127\./.test(address)
}

function show(text: string): string {
  return JSON.stringify(text.slice(0, SHOWN_CHARS))
}
