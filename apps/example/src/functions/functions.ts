import type { DurableFunction } from '@stepwell/sdk'
import type { OutsideWorld } from '../outside/outside-world.ts'
import type { Settings } from '../settings.ts'
import { delivery } from './delivery.ts'
import { onboarding } from './onboarding.ts'
import { orderSaga } from './order-saga.ts'
import { reviewPullRequest } from './review-pull-request.ts'

/** Everything durable that Gatekeeper does. */
export function createFunctions(outside: OutsideWorld, settings: Settings): DurableFunction[] {
  const { github, users, mail, stock, payments, carrier } = outside
  const { reviewTimeout, cooldown, approvalTimeout, collectTimeout } = settings
  const deliver = delivery({ carrier, collectTimeout })
  return [
    reviewPullRequest({ github, reviewTimeout }),
    onboarding({ users, mail, cooldown, approvalTimeout }),
    orderSaga({ stock, payments, delivery: deliver }),
    deliver,
  ]
}
