/** Exposes functions at one URL of an app, whatever the app is built on. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createReplayGuard, type Turn } from '@stepwell/protocol'
import { answerRequest, type EndpointParts } from './endpoint.ts'
import { fromFetch, toFetch } from './fetch-adapter.ts'
import type { DurableFunction } from './function.ts'
import { HttpClient } from './http-client.ts'
import { type EndpointAnswer, type EndpointRequest, problemAnswer } from './http-message.ts'
import { Keys, type SigningKey } from './keys.ts'
import { type Middleware, toHooks } from './middleware.ts'
import { fromNode, toNode } from './node-adapter.ts'
import { Patience } from './patience.ts'
import { RejectionGuard } from './rejection-guard.ts'
import { ReportStreams } from './report-streams.ts'
import { Reporter } from './reporter.ts'
import { Scopes } from './scopes.ts'
import { Served } from './served.ts'
import { BodyPlaces } from './step-body.ts'
import { executeTurn } from './turn.ts'
import { executeThrough } from './turn-hooks.ts'
import { UnreachableUrls } from './unreachable-urls.ts'

/** How an endpoint is set up. */
export interface ServeOptions {
  /**
   * `whsec_…`, several while one replaces another. Otherwise the environment's STEPWELL_SIGNING_KEY, and outside of
   * production the key of a local `stepwell dev`.
   */
  signingKey?: SigningKey
  /** How many step bodies run at a time in this process; 100 by default. */
  concurrency?: number
  /** Stands around turns and bodies, and rewrites payloads. The first is the outermost. */
  middleware?: readonly Middleware[]
}

/** What `serve` gives: a handler for hono, node:http, express and everything that takes a fetch handler. */
export interface Endpoint {
  (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void>
  (request: Request): Promise<Response>
  // Last: hono infers what a handler gives from the last signature.
  (context: { req: { raw: Request } }): Promise<Response>
}

const DEFAULT_CONCURRENCY = 100

/**
 * The endpoint that the engine calls. Mount it at one path, before anything that parses bodies.
 * @throws TypeError when there is no function, an id is there twice, or an option is malformed
 * @example
 * app.post('/api/stepwell', serve([onboarding]))                // hono, express
 * http.createServer(serve([onboarding])).listen(3000)           // node:http
 * export const POST = serve([onboarding])                       // fetch handlers
 */
export function serve(functions: readonly DurableFunction[], options: ServeOptions = {}): Endpoint {
  const parts = createParts(functions, options)

  async function answer(request: EndpointRequest): Promise<EndpointAnswer> {
    try {
      return await answerRequest(request, parts)
    } catch (error) {
      // A defect of this SDK. The app goes on; the engine sends the turn again and shows this.
      console.error('[stepwell] internal error', error)
      return problemAnswer(500, 'internal', 'The SDK has failed; the log of the app says why. Please report it.')
    }
  }

  return (async (first: unknown, second?: unknown) => {
    if (isFetchRequest(first)) return toFetch(await answer(fromFetch(first)))
    if (isHonoContext(first)) return toFetch(await answer(fromFetch(first.req.raw)))
    if (isNodeResponse(second)) return toNode(second, await answer(fromNode(first as IncomingMessage)))
    throw new TypeError('serve() takes a Request, a hono context, or the request and response of node:http or express.')
    // The three signatures are told apart at run time, so the implementation has none of them.
  }) as Endpoint
}

function createParts(functions: readonly DurableFunction[], options: ServeOptions): EndpointParts {
  const { signingKey, concurrency = DEFAULT_CONCURRENCY, middleware } = options
  if (!Number.isInteger(concurrency) || concurrency < 1) {
    throw new TypeError(`The concurrency of serve is ${concurrency}; use a whole number from 1.`)
  }
  const hooks = toHooks(middleware, 'serve')
  const client = new HttpClient()
  const streams = new ReportStreams()
  const places = new BodyPlaces(concurrency)
  const scopes = new Scopes()
  const patience = new Patience()
  const guard = new RejectionGuard(scopes)
  const reporters = new Map<string, Reporter>()
  const unreachable = new UnreachableUrls()

  function reporterFor(name: string, turn: Turn, secrets: readonly string[]): Reporter {
    const known = reporters.get(name)
    if (known !== undefined) return known
    // Forgotten as soon as it has nothing to do: engines come and go, and each has a URL of its own.
    const onIdle = () => reporters.delete(name)
    const target = { url: turn.reportUrl, workspace: turn.workspace, secrets }
    const reporter = new Reporter({ target, client, streams, unreachable, onIdle })
    reporters.set(name, reporter)
    return reporter
  }

  return {
    served: new Served(functions),
    keys: new Keys(signingKey),
    replayGuard: createReplayGuard(),
    execute: async (turn, definition, secrets) => {
      const reporter = JSON.stringify([turn.reportUrl, turn.workspace, secrets])
      const deliver = (text: string) => reporterFor(reporter, turn, secrets).report(text)
      guard.enter()
      try {
        const input = { turn, definition, deliver, places, scopes, patience }
        return await (hooks === null ? executeTurn(input) : executeThrough(hooks, input))
      } finally {
        guard.leave()
      }
    },
  }
}

function isFetchRequest(value: unknown): value is Request {
  return isObject(value) && typeof value.arrayBuffer === 'function' && value.headers !== undefined
}

function isHonoContext(value: unknown): value is { req: { raw: Request } } {
  return isObject(value) && isObject(value.req) && isFetchRequest(value.req.raw)
}

function isNodeResponse(value: unknown): value is ServerResponse {
  return isObject(value) && typeof value.writeHead === 'function'
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
