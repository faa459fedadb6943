import { EngineError } from '../core/errors.ts'
import { answer } from './answer.ts'
import type { HttpApp, HttpOptions } from './context.ts'

/** A probe waits no longer than this for Postgres. */
const READY_TIMEOUT_MS = 2_000

/** `/livez`: the process runs; it never asks Postgres. `/readyz`: send it work. */
export function addHealth(app: HttpApp, { engine, mode }: Pick<HttpOptions, 'engine' | 'mode'>): void {
  // The name tells another Stepwell that finds its port taken who has it.
  app.get('/livez', c => answer(c, 200, { status: 'live', name: 'stepwell', mode }))

  app.get('/readyz', async c => {
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
