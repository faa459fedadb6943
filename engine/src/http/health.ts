import { EngineError } from '../core/errors.ts'
import { answer } from './answer.ts'
import type { HttpApp, HttpOptions } from './context.ts'
import { addRoute, gives } from './route.ts'
import { liveView, readyView } from './views.ts'

/** A probe waits no longer than this for Postgres. */
const READY_TIMEOUT_MS = 2_000

const liveRoute = {
  method: 'get',
  path: '/livez',
  operationId: 'isLive',
  summary: 'The process runs; says nothing about its database',
  responses: gives(200, 'It does', liveView),
} as const

const readyRoute = {
  method: 'get',
  path: '/readyz',
  operationId: 'isReady',
  summary: 'The engine reaches its database and is not about to stop',
  responses: gives(200, 'It is; 503 when not', readyView),
} as const

/** `/livez`: the process runs; it never asks Postgres. `/readyz`: send it work. */
export function addHealth(app: HttpApp, { engine, mode }: Pick<HttpOptions, 'engine' | 'mode'>): void {
  // The name tells another Stepwell that finds its port taken who has it.
  addRoute(app, liveRoute, c => answer(c, 200, { status: 'live', name: 'stepwell', mode }))

  addRoute(app, readyRoute, async c => {
    if (engine.isDraining()) {
      throw new EngineError('draining', 503, 'This engine is about to stop. Send requests to another one.')
    }
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>(resolve => {
      timer = setTimeout(resolve, READY_TIMEOUT_MS, 'late')
    })
    const asked = engine.pools.read`select 1`.then(
      () => 'ready' as const,
      () => 'away' as const,
    )
    const found = await Promise.race([asked, late])
    clearTimeout(timer)
    if (found !== 'ready') {
      throw new EngineError('unavailable', 503, 'The engine does not reach its database. Check that Postgres runs.')
    }
    return answer(c, 200, { status: 'ready' })
  })
}
