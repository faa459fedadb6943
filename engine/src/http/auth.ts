/*
 * Who asks, and for which workspace. The header names the workspace, a signature over the raw bytes under one of its keys
 * proves it (SPEC.md 2). A dev engine also takes unsigned requests from this machine, for its one workspace.
 */
import {
  createReplayGuard,
  fingerprint,
  HEADERS,
  LIMITS,
  PROTOCOL_VERSIONS,
  payloadOf,
  type SignatureHeaders,
  verify,
} from '@stepwell/protocol'
import type { MiddlewareHandler } from 'hono'
import type { Catalog } from '../core/catalog.ts'
import { EngineError } from '../core/errors.ts'
import type { HttpContext, HttpEnv, HttpOptions } from './context.ts'
import { isLoopbackPeer } from './local-only.ts'
import { readBody } from './raw-body.ts'

/** The workspaces of the two kinds of engines, unless they were given another one. */
export const DEV_WORKSPACE = 'default/dev'
export const START_WORKSPACE = 'default/prod'

/** Reports write results into runs: also a dev engine takes them from the holder of the key only. */
const ALWAYS_SIGNED = '/v1/reports'
const SHOWN_CHARS = 100

/** Sets the request's workspace and raw body, or refuses it. Reads the body: nothing else does. */
export function authenticate(
  options: Pick<HttpOptions, 'engine' | 'mode' | 'devWorkspace'>,
): MiddlewareHandler<HttpEnv> {
  const { catalogs } = options.engine
  const devWorkspace = options.mode === 'dev' ? (options.devWorkspace ?? DEV_WORKSPACE) : null
  const replays = createReplayGuard()

  async function workspaceNamed(name: string | undefined): Promise<Catalog> {
    const catalog = isWorkspaceName(name) ? await catalogs.byName(name) : null
    if (catalog !== null) return catalog
    const ours = devWorkspace ?? `"stepwell start" makes ${START_WORKSPACE} unless told otherwise`
    const message =
      name === undefined || name === ''
        ? `There is no ${HEADERS.workspace} header. Name the engine's workspace in it: ${ours}.`
        : `There is no workspace ${show(name)} on this engine. Set STEPWELL_WORKSPACE in the app to the engine's: ${ours}.`
    throw new EngineError('workspace_unknown', 401, message)
  }

  return async (c, next) => {
    const headers: SignatureHeaders = {
      id: c.req.header(HEADERS.id),
      timestamp: c.req.header(HEADERS.timestamp),
      signature: c.req.header(HEADERS.signature),
    }
    const isSigned = Object.values(headers).some(value => value !== undefined)
    const named = c.req.header(HEADERS.workspace)
    if (!isSigned) {
      const workspace = requireUnsignedAllowed(devWorkspace, c, named)
      requireVersion(c, false)
      c.set('catalog', await workspaceNamed(workspace))
      c.set('body', await readBody(c.req.raw))
      return next()
    }
    requireVersion(c, true)
    const catalog = await workspaceNamed(named)
    const body = await readBody(c.req.raw)
    const payload = payloadOf(c.req.method, targetOf(c), body)
    const nowMs = Date.now()
    const verified = verify({ headers, payload, secrets: catalog.keys, nowMs })
    if (!verified.ok) {
      throw new EngineError(verified.code, 401, verified.message, { fingerprints: catalog.keys.map(fingerprint) })
    }
    // Senders choose their ids: those of two workspaces have nothing to do with each other.
    if (!replays.accept(`${catalog.ws} ${verified.id}`, nowMs)) {
      throw new EngineError(
        'request_replayed',
        401,
        `A message with the ${HEADERS.id} ${verified.id} was accepted before. Give each request a new id, also one that repeats another.`,
      )
    }
    c.set('catalog', catalog)
    c.set('body', body)
    c.set('signedId', verified.id)
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

function requireVersion(c: HttpContext, isSigned: boolean): void {
  const version = c.req.header(HEADERS.version)
  if (version === undefined && !isSigned) return
  if (version !== undefined && PROTOCOL_VERSIONS.includes(version)) return
  const said =
    version === undefined ? `There is no ${HEADERS.version} header` : `Version ${show(version)} is not known here`
  throw new EngineError('version_unknown', 415, `${said}. This engine speaks ${PROTOCOL_VERSIONS.join(', ')}.`, {
    versions: PROTOCOL_VERSIONS,
  })
}

/** Path and query as on the request line; that is what a request without a body is signed with. */
function targetOf(c: HttpContext): string {
  const incoming = c.env?.incoming
  if (incoming?.url !== undefined) return incoming.url
  const { pathname, search } = new URL(c.req.url)
  return pathname + search
}

/** Postgres takes no NUL, and no name is longer than this. */
function isWorkspaceName(name: string | undefined): name is string {
  return name !== undefined && name.length <= LIMITS.workspaceChars && /^[^\p{Cc}\p{Cs}]+$/u.test(name)
}

function show(text: string): string {
  return JSON.stringify(text.slice(0, SHOWN_CHARS))
}
