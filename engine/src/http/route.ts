/*
 * Routes with their description, from which `/v1/openapi.json` is made. The description checks nothing: bodies are verified
 * as bytes before they are parsed, and what is wrong with them is told with paths, which a generic validator does not.
 */
import { createRoute, type RouteConfig } from '@hono/zod-openapi'
import type { Handler } from 'hono'
import { z } from 'zod'
import type { HttpApp, HttpEnv } from './context.ts'
import { problemView } from './views.ts'

/** JSON Schema of what a sender writes (`input`) or reads (`output`). */
function schemaOf(schema: z.ZodType, io: 'input' | 'output'): object {
  // Checks that JSON Schema cannot say (sizes in bytes, dense numbering) are left to the prose.
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any', reused: 'inline' })
  return rest
}

/** A JSON body. */
export function takes(schema: z.ZodType): {
  body: { required: true; content: { 'application/json': { schema: object } } }
} {
  return { body: { required: true, content: { 'application/json': { schema: schemaOf(schema, 'input') } } } }
}

/** The answer when all is well, and problem documents for everything else. */
export function gives(status: number, description: string, schema: z.ZodType): RouteConfig['responses'] {
  return {
    [status]: { description, content: { 'application/json': { schema: schemaOf(schema, 'output') } } },
    default: {
      description: 'What went wrong, as a problem document (RFC 9457). docs/errors.md lists the codes.',
      content: { 'application/problem+json': { schema: schemaOf(problemView, 'output') } },
    },
  }
}

/** Mounts a route and describes it. Paths are written as in OpenAPI: `/v1/runs/{id}`. */
export function addRoute(app: HttpApp, config: RouteConfig, handler: Handler<HttpEnv>): void {
  const route = createRoute(config)
  app.openAPIRegistry.registerPath(route)
  app.on(route.method.toUpperCase(), route.getRoutingPath(), handler)
}
