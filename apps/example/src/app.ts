/** The HTTP side: what comes in becomes an event, and the engine's turns go to the endpoint. */
import { type Endpoint, type StepwellClient, StepwellError } from '@stepwell/sdk'
import { Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import type { Events } from './events.ts'
import type { Ledger } from './outside/ledger.ts'
import type { OutsideWorld } from './outside/outside-world.ts'
import { UnknownUserError } from './outside/users.ts'
import { BodyError, readId, readOrder, readPerson } from './read-body.ts'
import { statusPage } from './status-page.ts'
import { readDelivery } from './webhooks/github-webhook.ts'

export interface AppParts {
  client: StepwellClient<Events>
  endpoint: Endpoint
  hookSecret: string
  /** Whether the engine knows the functions. */
  isReady: () => boolean
  ledger: Ledger
  newOrderId: () => string
  outside: OutsideWorld
}

/** What the engine takes as one event. GitHub sends up to 25 MB, for pushes of thousands of commits. */
const MAX_BODY_BYTES = 1024 * 1024

/** The paths of the app. */
export const PATHS = {
  webhook: '/webhooks/github',
  stepwell: '/api/stepwell',
  users: '/users',
  orders: '/orders',
  parcels: '/parcels',
}

export function createApp(parts: AppParts): Hono {
  const { client, endpoint, hookSecret, isReady, ledger, newOrderId, outside } = parts
  const app = new Hono()
  // Before the limit: turns carry whole journals, and the endpoint has a limit of its own.
  app.all(PATHS.stepwell, c => endpoint(c))
  app.use(bodyLimit({ maxSize: MAX_BODY_BYTES, onError: c => c.json({ error: 'More than 1 MiB.' }, 413) }))

  app.post(PATHS.webhook, async c => {
    const delivery = readDelivery(
      {
        event: c.req.header('x-github-event'),
        id: c.req.header('x-github-delivery'),
        signature: c.req.header('x-hub-signature-256'),
        body: new Uint8Array(await c.req.arrayBuffer()),
      },
      hookSecret,
    )
    if (delivery.kind === 'refused') return c.json({ error: delivery.why }, delivery.status)
    // The name is made of what GitHub sent: whether a function takes it is for the engine to know.
    const [sent] = await client.send(delivery.event as Parameters<typeof client.send>[0])
    // 202 means stored: GitHub may forget it now.
    return c.json({ event: delivery.event.name, ...sent }, 202)
  })

  app.post(PATHS.users, async c => {
    const user = outside.users.signUp(readPerson(await c.req.json()))
    // The id makes a second sign-up with the same address the same event.
    const [sent] = await client.send({ name: 'user.created', id: `user-${user.id}-created`, data: { id: user.id } })
    return c.json({ user, ...sent }, 202)
  })

  app.post(`${PATHS.users}/:id/approve`, async c => {
    const { id: userId } = outside.users.find(readId(c.req.param('id')))
    const [sent] = await client.send({ name: 'approval.received', data: { userId } })
    return c.json({ userId, ...sent }, 202)
  })

  app.post(PATHS.orders, async c => {
    const order = readOrder(await c.req.json(), outside.stock.find, newOrderId)
    const [sent] = await client.send({ name: 'order.placed', id: `order-${order.id}-placed`, data: order })
    return c.json({ order, ...sent }, 202)
  })

  app.get(`${PATHS.orders}/:run`, async c => {
    const { state, status, tags, error } = await client.getRun(c.req.param('run'))
    return c.json({ state, status, tags, why: error?.message ?? null })
  })

  app.post(`${PATHS.orders}/:run/cancel`, async c =>
    c.json(await client.cancel(c.req.param('run'), { reason: 'The customer has changed her mind.' }), 202),
  )

  // The carrier's reference is the run that waits.
  app.post(`${PATHS.parcels}/:run/collected`, async c =>
    c.json(await client.signal(c.req.param('run'), 'collected'), 202),
  )

  app.get('/readyz', c => (isReady() ? c.json({ status: 'ready' }) : c.json({ status: 'starting' }, 503)))

  app.get('/', c => c.html(statusPage(ledger.lines())))

  app.onError((error, c) => {
    if (error instanceof BodyError) return c.json({ error: error.message }, 400)
    if (error instanceof SyntaxError) return c.json({ error: 'The body is no JSON.' }, 400)
    if (error instanceof UnknownUserError) return c.json({ error: error.message }, 404)
    // Nothing was stored. Whoever is told 503 may send it again, under the same id.
    if (error instanceof StepwellError) return c.json({ error: error.message, code: error.code }, statusOf(error))
    console.error(error)
    return c.json({ error: 'Gatekeeper failed; its log says why.' }, 500)
  })
  return app
}

function statusOf({ code }: StepwellError): 404 | 409 | 413 | 500 | 503 {
  if (code === 'run_not_found') return 404
  if (code === 'run_ended') return 409
  if (code === 'unavailable' || code === 'draining') return 503
  return code === 'event_too_large' || code === 'body_too_large' ? 413 : 500
}
