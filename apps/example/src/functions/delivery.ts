import { createFunction, type DurableFunction, type Duration } from '@stepwell/sdk'
import type { Carrier } from '../outside/carrier.ts'
import { wishOf } from './wish-of.ts'

/** What has to go where. */
export interface Parcel {
  orderId: string
  country: string
}

export interface Delivered {
  trackingId: string
}

/**
 * Books a parcel and waits for its collection: a run of its own, which the order invokes. Its id is the reference under
 * which the carrier says that the parcel was collected.
 */
export function delivery(parts: { carrier: Carrier; collectTimeout: Duration }): DurableFunction<Delivered> {
  const { carrier, collectTimeout } = parts
  return createFunction({
    id: 'delivery',
    retries: { limit: 4, minDelay: '200ms', maxDelay: '1m' },
    handler: async ({ event, step, run }) => {
      const { orderId, country }: Parcel = event.data
      const { trackingId } = await step.run(
        'book-parcel',
        ({ idempotencyKey }) => carrier.book({ orderId, country, reference: run.id }, idempotencyKey).catch(wishOf),
        { undo: (_, { idempotencyKey }) => carrier.cancel(orderId, idempotencyKey) },
      )
      const collected = await step.waitForSignal('collected', 'collected', { timeout: collectTimeout })
      if (collected === null) throw new Error(`Parcel ${trackingId} was not collected within ${collectTimeout}.`)
      return { trackingId }
    },
  })
}
