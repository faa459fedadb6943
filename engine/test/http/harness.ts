/*
 * The API on a real engine and a real database, called without a port.
 *
 *     const http = useHttp('start')
 *     const response = await http.signed('POST', '/v1/events', { name: 'a' })
 */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { HEADERS, newMessageId, PROTOCOL_VERSION, payloadOf, responseId, signHeaders, verify } from '@stepwell/protocol'
import { afterAll, beforeAll, expect } from 'vitest'
import { createEngine, type Engine } from '../../src/engine.ts'
import { createEdge, type HttpEdge } from '../../src/http/app.ts'
import type { HttpApp, HttpOptions } from '../../src/http/context.ts'
import { problemView } from '../../src/http/views.ts'
import { createLog } from '../../src/log.ts'
import { open, type Sql } from '../../src/store/db.ts'
import { ensureWorkspace, saveApp } from '../../src/store/workspaces.ts'
import { createTestDatabase, type TestDatabase } from '../database.ts'

export const aKey = () => `whsec_${randomBytes(32).toString('base64')}`

export interface Call {
  /** The other end of the connection; `null` for a connection that has none. */
  peer?: string | null
  headers?: Record<string, string>
  /** What a client could send besides JSON. */
  raw?: string | Uint8Array | ReadableStream<Uint8Array>
}

export interface SignedCall extends Call {
  workspace?: string
  keys?: string[]
  id?: string
  /** Seconds that the sender's clock is ahead. */
  aheadSeconds?: number
}

export interface Http {
  app: HttpApp
  /** The same, with what a server needs besides. */
  edge: HttpEdge
  engine: Engine
  sql: Sql
  workspace: string
  key: string
  /** What was logged, as JSON lines. */
  logged: Record<string, unknown>[]
  call(method: string, path: string, json?: unknown, call?: Call): Promise<Response>
  signed(method: string, path: string, json?: unknown, call?: SignedCall): Promise<Response>
  /** Rows of what requests may write. */
  stored(): Promise<Record<string, number>>
  /** Makes the workspace serve functions, as a sync does. */
  serve(functions: Record<string, string>, url?: string): Promise<void>
}

/** Opens the file's database, and an engine on it that takes no work until it is started. */
export function useHttp(mode: HttpOptions['mode'], options: { selfUrl?: string; streamsMax?: number } = {}): Http {
  let database: TestDatabase
  const workspace = mode === 'dev' ? 'default/dev' : 'shop/prod'
  const http = { workspace, key: aKey(), logged: [] as Record<string, unknown>[] } as Http

  beforeAll(async () => {
    database = await createTestDatabase()
    const log = createLog('silent')
    http.sql = open(database.connection, 2)
    await ensureWorkspace(http.sql, workspace, http.key)
    http.engine = createEngine({
      connection: database.connection,
      log,
      selfUrl: 'http://127.0.0.1:1',
      ...options,
    })
    http.edge = createEdge({ engine: http.engine, mode, log: recorder(http.logged) })
    http.app = http.edge.app
  })

  afterAll(async () => {
    await http.engine.stop(0)
    await http.sql.end({ timeout: 1 })
    await database.drop()
  })

  http.call = async (method, path, json, { peer = '127.0.0.1', headers = {}, raw } = {}) => {
    const body = raw ?? (json === undefined ? undefined : JSON.stringify(json))
    const env = peer === null ? undefined : { incoming: { socket: { remoteAddress: peer } as Socket } as never }
    const init = { method, headers, ...(body === undefined ? {} : { body, duplex: 'half' as const }) }
    return http.app.request(path, init, env)
  }

  http.signed = async (method, path, json, call = {}) => {
    const body = call.raw ?? (json === undefined ? undefined : JSON.stringify(json))
    if (body instanceof ReadableStream) throw new Error('A stream cannot be signed.')
    const id = call.id ?? newMessageId()
    const nowMs = Date.now() + (call.aheadSeconds ?? 0) * 1000
    const payload = payloadOf(method, path, body)
    const headers = {
      [HEADERS.version]: PROTOCOL_VERSION,
      [HEADERS.workspace]: call.workspace ?? workspace,
      ...signHeaders({ id, nowMs, payload, secrets: call.keys ?? [http.key] }),
      ...call.headers,
    }
    const response = await http.call(method, path, undefined, {
      ...call,
      headers,
      ...(body === undefined ? {} : { raw: body }),
    })
    // SPEC 2.5: what answers a signed request well is signed, and bound to it.
    // A stream has no end to sign (SPEC 13.4).
    const isStream = response.headers.get('content-type') === 'text/event-stream'
    if (response.status < 300 && !isStream) await expectSigned(response.clone(), id, call.keys ?? [http.key])
    return response
  }

  http.stored = async () => {
    const [row] = await http.sql<Record<string, number>[]>`
      select (select count(*)::int from stepwell.events) as events,
        (select count(*)::int from stepwell.runs) as runs,
        (select count(*)::int from stepwell.runs_done) as runs_done,
        (select count(*)::int from stepwell.journal) as journal,
        (select count(*)::int from stepwell.event_ids) as event_ids,
        (select count(*)::int from stepwell.functions) as functions,
        (select sum(version)::int from stepwell.workspaces) as versions`
    return { ...row }
  }

  http.serve = async (functions, url = 'http://127.0.0.1:1/') => {
    const catalog = await http.engine.catalogs.byName(workspace)
    if (catalog === null) throw new Error('no workspace')
    const list = Object.entries(functions).map(([id, event]) => ({ id, triggers: [{ event }] }))
    await saveApp(http.sql, catalog.ws, { url, functions: list })
    await http.engine.catalogs.reload(catalog.ws)
  }
  return http
}

/** Reads a problem document and holds it to its shape. */
export async function problemOf(response: Response): Promise<{
  status: number
  code: string
  detail: string
  errors?: { path: string; message: string }[]
  [extra: string]: unknown
}> {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  const problem = problemView.parse(await response.json())
  expect(problem.status).toBe(response.status)
  expect(problem.type).toBe(`urn:stepwell:error:${problem.code}`)
  expect(problem.requestId).toBe(response.headers.get('x-request-id'))
  return problem as never
}

async function expectSigned(response: Response, requestId: string, secrets: string[]): Promise<void> {
  const headers = {
    id: response.headers.get(HEADERS.id),
    timestamp: response.headers.get(HEADERS.timestamp),
    signature: response.headers.get(HEADERS.signature),
  }
  const verified = verify({ headers, payload: Buffer.from(await response.arrayBuffer()), secrets, nowMs: Date.now() })
  expect(verified).toEqual({ ok: true, id: responseId(requestId) })
}

function recorder(lines: Record<string, unknown>[]): HttpOptions['log'] {
  const write = (level: string) => (fields: object, message: string) => {
    lines.push({ level, message, ...fields })
  }
  // The API logs with these two; a logger has more.
  return { error: write('error'), warn: write('warn') } as unknown as HttpOptions['log']
}
