import { encodeId, LIMITS } from '@stepwell/protocol'
import { channelSchema, firstProblems, newStreamTokenSchema } from '@stepwell/protocol/schemas'
import { z } from 'zod'
import { EngineError } from '../core/errors.ts'
import { findRun } from '../store/runs.ts'
import { answer } from './answer.ts'
import type { HttpApp, HttpContext, HttpOptions } from './context.ts'
import { eventStream, KEEP_ALIVE_MS } from './event-stream.ts'
import { readQuery, refuseQuery } from './query.ts'
import { invalidBody, parseJson } from './raw-body.ts'
import { addRoute, gives, takes } from './route.ts'
import { readRunId, runNotFound, runParams } from './runs.ts'
import { createStreamToken, type StreamGrant } from './stream-tokens.ts'
import { problemView, streamTokenView } from './views.ts'

/** Larger numbers are not exact in JSON. */
const CURSOR = /^[0-9]{1,15}$/
const SHOWN_CHARS = 150

export const streamQuery = z.strictObject({
  channel: z.array(channelSchema).max(LIMITS.channelsPerStream, `is there more than ${LIMITS.channelsPerStream} times`),
  after: z.string().regex(CURSOR, 'is not the id of a message').default('0'),
  token: z.string().optional(),
})

const tokenRoute = {
  method: 'post',
  path: '/v1/runs/{id}/tokens',
  operationId: 'createStreamToken',
  summary: 'A token with which a web page follows one run',
  request: { params: runParams, ...takes(z.strictObject(newStreamTokenSchema.shape)) },
  responses: gives(201, 'The token, and until when it is good', streamTokenView),
} as const

const streamRoute = {
  method: 'get',
  path: '/v1/runs/{id}/stream',
  operationId: 'followRun',
  summary: 'What a run publishes: what it has, then what comes, until it ends',
  request: { params: runParams, query: streamQuery.partial({ channel: true }) },
  responses: {
    ...gives(200, 'Server-sent events', problemView),
    200: {
      description: 'Server-sent events: the number of the message, its channel, its data. "stepwell.end" is the last',
      content: { 'text/event-stream': { schema: { type: 'string' } } },
    },
  },
} as const

/** How pages follow runs: `GET /v1/runs/{id}/stream`, and the tokens for it. */
export function addRunStreams(app: HttpApp, { engine, log }: Pick<HttpOptions, 'engine' | 'log'>): void {
  addRoute(app, tokenRoute, async c => {
    refuseQuery(c)
    const body = c.get('body')
    const parsed = newStreamTokenSchema.strict().safeParse(body.length === 0 ? {} : parseJson(body))
    if (!parsed.success) throw invalidBody('{ "channels": ["…"], "ttlMs": … }, or nothing', firstProblems(parsed.error))
    const { runId, id } = readRunId(c)
    const catalog = c.get('catalog')
    if (runId === null || (await findRun(engine.pools.read, catalog.ws, runId)) === null)
      throw runNotFound(id, catalog.name)
    const { channels = null, ttlMs = LIMITS.streamTokenDefaultMs } = parsed.data
    const wanted = { run: encodeId('run', runId), channels, ttlMs, nowMs: Date.now() }
    return answer(c, 201, await createStreamToken(catalog, wanted))
  })

  addRoute(app, streamRoute, async c => {
    const { channels, after } = readStreamQuery(c)
    const { runId, id } = readRunId(c)
    const grant = c.get('streamGrant')
    if (grant !== undefined) requireGranted(grant, id, channels)
    const { ws, name } = c.get('catalog')
    const wanted = channels ?? grant?.channels ?? null
    const request = runId === null ? null : { ws, runId, after, channels: wanted, idleMs: KEEP_ALIVE_MS }
    const following = request === null ? null : await engine.followRun(request)
    if (following === null) throw runNotFound(id, name)
    const expiresAtMs = grant?.expiresAtMs ?? null
    const headers = {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store, no-transform',
      // nginx would collect what is to be seen at once
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
      'x-request-id': c.get('requestId'),
    }
    // Nobody reads the body of an answer to HEAD.
    if (c.req.raw.method === 'HEAD') following.close()
    const body =
      c.req.raw.method === 'HEAD'
        ? null
        : eventStream(following, { log, requestId: c.get('requestId'), expiresAtMs, outgoing: c.env?.outgoing })
    return new Response(body, { headers })
  })
}

/** The channels that are asked for, null for all, and the cursor. Throws `query_invalid`. */
function readStreamQuery(c: HttpContext): { channels: string[] | null; after: number } {
  const { channel, after } = readQuery(c, streamQuery, ['channel'])
  const last = c.req.header('last-event-id')
  if (last !== undefined && last !== '' && !CURSOR.test(last)) {
    const message = 'is not the id of a message'
    throw new EngineError('query_invalid', 400, `The query is not valid. "last-event-id" ${message}. See "errors".`, {
      errors: [{ path: 'last-event-id', message }],
    })
  }
  // A browser that comes back asks the same URL, and says in the header how far it has come.
  return { channels: channel.length === 0 ? null : channel, after: Number(last || after) }
}

function requireGranted(grant: StreamGrant, id: string, channels: string[] | null): void {
  if (id.toLowerCase() !== grant.run) {
    const message = `The token is for ${grant.run}, not for ${JSON.stringify(id.slice(0, SHOWN_CHARS))}. Get one for this run from the app's server.`
    throw new EngineError('stream_not_allowed', 403, message)
  }
  const { channels: allowed } = grant
  const foreign = allowed === null ? undefined : channels?.find(channel => !allowed.includes(channel))
  if (foreign === undefined) return
  const message = `The token is not for the channel ${JSON.stringify(foreign)}. Get one for it from the app's server, or leave "channel" out to read those that it is for.`
  throw new EngineError('stream_not_allowed', 403, message)
}
