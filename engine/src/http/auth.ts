/*
 * Who asks, and for which workspace. The header names the workspace, a signature over the raw bytes under one of its keys
 * proves it (SPEC.md 2). A dev engine also takes unsigned requests from this machine, for its one workspace. A web page has
 * no key: it follows its run with a token (stream-tokens.ts).
 */
import { HEADERS, payloadOf, type SignatureHeaders } from '@stepwell/protocol'
import type { MiddlewareHandler } from 'hono'
import { EngineError } from '../core/errors.ts'
import type { HttpContext, HttpEnv } from './context.ts'
import { type Gate, requireVersion } from './gate.ts'
import { isLoopbackPeer } from './local-only.ts'
import { readBody } from './raw-body.ts'
import { verifyStreamToken } from './stream-tokens.ts'

/** Reports write results into runs: also a dev engine takes them from the holder of the key only. */
const ALWAYS_SIGNED = '/v1/reports'

/** Sets the request's workspace and raw body, or refuses it. Reads the body: nothing else does. */
export function authenticate(gate: Gate): MiddlewareHandler<HttpEnv> {
  return async (c, next) => {
    const token = c.get('streamToken')
    if (token !== undefined) {
      const { catalog, grant } = await verifyStreamToken(gate, token, Date.now())
      c.set('catalog', catalog)
      c.set('streamGrant', grant)
      return next()
    }
    const headers: SignatureHeaders = {
      id: c.req.header(HEADERS.id),
      timestamp: c.req.header(HEADERS.timestamp),
      signature: c.req.header(HEADERS.signature),
    }
    const isSigned = Object.values(headers).some(value => value !== undefined)
    const named = c.req.header(HEADERS.workspace)
    if (!isSigned) {
      const workspace = requireUnsignedAllowed(gate.devWorkspace, c, named)
      requireVersion(c.req.header(HEADERS.version), false)
      c.set('catalog', await gate.workspaceNamed(workspace))
      c.set('body', await readBody(c.req.raw))
      return next()
    }
    requireVersion(c.req.header(HEADERS.version), true)
    const catalog = await gate.workspaceNamed(named)
    const body = await readBody(c.req.raw)
    c.set('signedId', gate.verify(catalog, headers, payloadOf(c.req.method, targetOf(c), body)))
    c.set('catalog', catalog)
    c.set('body', body)
    await next()
  }
}

/** The workspace that a request without a signature acts on. */
function requireUnsignedAllowed(devWorkspace: string | null, c: HttpContext, named: string | undefined): string {
  const isLocal = devWorkspace !== null && isLoopbackPeer(c)
  const isReports = c.req.path === ALWAYS_SIGNED
  if (isLocal && !isReports && (named === undefined || named === devWorkspace)) return devWorkspace
  let why = ''
  if (isLocal) {
    why = isReports
      ? ' Reports are signed on a dev engine too.'
      : ` Without a signature this engine acts on ${devWorkspace} only.`
  }
  throw new EngineError(
    'signature_missing',
    401,
    `The request is not signed.${why} Sign it with a key of the workspace: ${HEADERS.id}, ${HEADERS.timestamp} and ${HEADERS.signature}.`,
  )
}

/** Path and query as on the request line; that is what a request without a body is signed with. */
function targetOf(c: HttpContext): string {
  const incoming = c.env?.incoming
  if (incoming?.url !== undefined) return incoming.url
  const { pathname, search } = new URL(c.req.url)
  return pathname + search
}
