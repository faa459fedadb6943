import { createFunction, type DurableFunction } from '@stepwell/sdk'
import type { Events } from '../events.ts'
import type { Payments } from '../outside/payments.ts'
import type { Stock } from '../outside/stock.ts'
import type { Delivered } from './delivery.ts'
import { wishOf } from './wish-of.ts'

/**
 * An order across three companies without a common transaction: reserve, charge, deliver. When one of them says no for
 * good, or the customer changes her mind, what was done is undone in reverse order. Each undoing is a step too: a crash in
 * the middle of it goes on where it was.
 */
export function orderSaga(parts: {
  stock: Stock
  payments: Payments
  delivery: DurableFunction<Delivered>
}): DurableFunction {
  const { stock, payments, delivery } = parts
  return createFunction<Events, 'order.placed'>({
    id: 'order-saga',
    trigger: { event: 'order.placed' },
    tags: { order: 'id', article: 'sku' },
    retries: { limit: 4, minDelay: '200ms', maxDelay: '1m' },
    handler: async ({ event, step }) => {
      const { id: orderId, sku, quantity, amountCents, card, country } = event.data
      step.setStatus({ stage: 'reserving' })
      await step.run(
        'reserve-stock',
        ({ idempotencyKey }) => stock.reserve({ orderId, sku, quantity }, idempotencyKey).catch(wishOf),
        { undo: (_, { idempotencyKey }) => stock.release(orderId, idempotencyKey) },
      )

      step.setStatus({ stage: 'charging' })
      // Only completed steps are undone, and a charge that failed for good may have gone through all the same, when its answer
      // was lost. So its undo is on a step before it, and finds out itself whether there is anything to give back. (A
      // reservation or a booking that nobody confirms lapses by itself.)
      await step.run('open-bill', () => ({ orderId }), {
        undo: (_, { idempotencyKey: key, signal }) => payments.refund({ orderId, key, signal }),
      })
      // The key is the same for every attempt, also after a crash: the provider charges once per key.
      const { chargeId } = await step.run('charge', ({ idempotencyKey: key, signal }) =>
        payments.charge({ card, amountCents }, { orderId, key, signal }).catch(wishOf),
      )

      step.setStatus({ stage: 'delivering' })
      const { trackingId } = await step.invoke('deliver', { function: delivery, data: { orderId, country } })
      step.setStatus({ stage: 'shipped', trackingId })
      return { outcome: 'shipped' as const, chargeId, trackingId }
    },
  })
}
