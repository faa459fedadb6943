import { PROTOCOL_VERSION } from '@stepwell/protocol'
import { z } from 'zod'
import { answer } from './answer.ts'
import type { HttpApp } from './context.ts'
import { refuseQuery } from './query.ts'
import { addRoute, gives } from './route.ts'

const route = {
  method: 'get',
  path: '/v1/openapi.json',
  operationId: 'describeApi',
  summary: 'This description',
  responses: gives(200, 'OpenAPI 3.1', z.looseObject({ openapi: z.string() })),
} as const

const INFO = {
  openapi: '3.1.0',
  info: {
    title: 'Stepwell',
    version: PROTOCOL_VERSION,
    description:
      'Every request is signed (Standard Webhooks) and names its workspace in stepwell-workspace. A dev engine takes unsigned requests from its own machine too.',
  },
}

/** `GET /v1/openapi.json`: made of the routes that are mounted, once somebody asks. */
export function addDescription(app: HttpApp): void {
  let description: object | undefined
  addRoute(app, route, c => {
    refuseQuery(c)
    description ??= app.getOpenAPI31Document(INFO)
    return answer(c, 200, description)
  })
}
