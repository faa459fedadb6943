import type { SyncRequest } from '@stepwell/protocol'
import { firstProblems, syncRequestSchema } from '@stepwell/protocol/schemas'
import { answer } from './answer.ts'
import type { HttpApp, HttpOptions } from './context.ts'
import { refuseQuery } from './query.ts'
import { invalidBody, parseJson } from './raw-body.ts'
import { addRoute, gives, takes } from './route.ts'
import { syncView } from './views.ts'

const route = {
  method: 'post',
  path: '/v1/sync',
  operationId: 'syncApp',
  summary: 'Say where an app is; the engine asks it what it serves',
  request: takes(syncRequestSchema),
  responses: gives(200, 'The functions of the workspace from now on', syncView),
} as const

/** `POST /v1/sync`: an app says where it is. The engine asks it what it serves before it answers. */
export function addSync(app: HttpApp, { engine }: Pick<HttpOptions, 'engine'>): void {
  addRoute(app, route, async c => {
    refuseQuery(c)
    const parsed = syncRequestSchema.safeParse(parseJson(c.get('body')))
    if (!parsed.success) throw invalidBody('a sync request', firstProblems(parsed.error))
    return answer(c, 200, await engine.syncApp(c.get('catalog'), parsed.data as SyncRequest))
  })
}
