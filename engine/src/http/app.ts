/*
 * The REST API. A request passes, in this order: its id; in dev, the check that no web page sent it; who asks, which
 * reads and verifies the raw body; its route. Whatever is thrown on the way becomes a problem document.
 */
import { randomBytes } from 'node:crypto'
import { OpenAPIHono } from '@hono/zod-openapi'
import { EngineError } from '../core/errors.ts'
import type { Log } from '../log.ts'
import { authenticate } from './auth.ts'
import type { HttpApp, HttpEnv, HttpOptions } from './context.ts'
import { addDescription } from './description.ts'
import { addEvents } from './events.ts'
import { DEV_WORKSPACE, Gate } from './gate.ts'
import { addHealth } from './health.ts'
import { localOnly } from './local-only.ts'
import { answerProblem } from './problems.ts'
import { createReportStreams, type ReportStreams } from './report-streams.ts'
import { addReports } from './reports.ts'
import { addRunStreams } from './run-streams.ts'
import { addRuns } from './runs.ts'
import { STREAM_PATH, streamDoor } from './stream-door.ts'
import { addSync } from './sync.ts'

/** Builds the HTTP side of an engine: a `fetch` function for a server, or for a test without one. */
export function createHttp(options: HttpOptions, edge: EdgeParts = createEdgeParts(options)): HttpApp {
  const app: HttpApp = new OpenAPIHono<HttpEnv>()
  app.use(async (c, next) => {
    c.set('requestId', edge.newRequestId())
    await next()
  })
  app.use(STREAM_PATH, streamDoor)
  if (options.mode === 'dev') app.use(localOnly)
  app.use('/v1/*', authenticate(edge.gate))
  addHealth(app, options)
  addEvents(app, options)
  addReports(app, options)
  addSync(app, options)
  addRuns(app, options)
  addRunStreams(app, options)
  addDescription(app)
  refuseOtherMethods(app, options.log)
  app.notFound(c => answerProblem(c, options.log, notFound(c.req.method, c.req.path)))
  app.onError((error, c) => answerProblem(c, options.log, error))
  return app
}

/** What requests and streams share. */
interface EdgeParts {
  gate: Gate
  newRequestId: () => string
}

function createEdgeParts({ engine, mode, devWorkspace = DEV_WORKSPACE }: HttpOptions): EdgeParts {
  // Unique without asking for randomness or the clock at each request.
  const idPrefix = `req_${randomBytes(8).toString('hex')}_`
  let requests = 0
  return {
    gate: new Gate(engine.catalogs, mode === 'dev' ? devWorkspace : null),
    newRequestId() {
      requests += 1
      return idPrefix + requests
    },
  }
}

/** What a server serves: the REST API, and report streams. */
export interface HttpEdge {
  app: HttpApp
  streams: ReportStreams
}

/** Builds everything that an engine answers over HTTP. */
export function createEdge(options: HttpOptions): HttpEdge {
  const parts = createEdgeParts(options)
  const { engine, log } = options
  return { app: createHttp(options, parts), streams: createReportStreams({ engine, log, ...parts }) }
}

/** Known paths answer 405 to methods that they do not have. Called when all routes are there. */
function refuseOtherMethods(app: HttpApp, log: Log): void {
  const methods = new Map<string, string[]>()
  for (const { path, method } of app.routes) {
    if (method !== 'ALL')
      methods.set(path, [...(methods.get(path) ?? []), ...(method === 'GET' ? ['GET', 'HEAD'] : [method])])
  }
  for (const [path, allowed] of methods) {
    const allow = allowed.join(', ')
    app.all(path, c => {
      const message = `${c.req.path} does not take ${c.req.method}. Use ${allow}.`
      return answerProblem(c, log, new EngineError('method_not_allowed', 405, message), { allow })
    })
  }
}

function notFound(method: string, path: string): EngineError {
  const shown = JSON.stringify(path.slice(0, 100))
  return new EngineError(
    'not_found',
    404,
    `There is nothing at ${method} ${shown}. GET /v1/openapi.json lists what there is.`,
  )
}
