import { createFunction, type DurableFunction, NonRetriableError, RetryAfterError, StepError } from '@stepwell/sdk'
import type { Events } from '../events.ts'
import { type Carrier, UndeliverableError } from '../outside/carrier.ts'
import { PaymentError, type Payments } from '../outside/payments.ts'
import { OutOfStockError, type Stock } from '../outside/stock.ts'

/**
 * An order across three companies without a common transaction: reserve, charge, ship. When one of them says no for
 * good, what was done before is undone in reverse order, and each undoing is a step too: a crash in the middle of it
 * goes on where it was.
 */
export function orderSaga(parts: { stock: Stock; payments: Payments; carrier: Carrier }): DurableFunction {
  const { stock, payments, carrier } = parts
  return createFunction<Events, 'order.placed'>({
    id: 'order-saga',
    trigger: { event: 'order.placed' },
    retries: { limit: 4, minDelay: '200ms', maxDelay: '1m' },
    handler: async ({ event, step }) => {
      const { id: orderId, sku, quantity, amountCents, card, country } = event.data
      const undo: (() => Promise<unknown>)[] = []
      try {
        // On the list before it is tried: a step that failed for good may have had its effect all the same, when only
        // its answer was lost. So each undoing finds out itself whether there is anything to undo.
        undo.push(() => step.run('release-stock', ({ idempotencyKey }) => stock.release(orderId, idempotencyKey)))
        await step.run('reserve-stock', ({ idempotencyKey }) =>
          stock.reserve({ orderId, sku, quantity }, idempotencyKey).catch(translate),
        )

        undo.push(() =>
          step.run('refund', ({ idempotencyKey: key, signal }) => payments.refund({ orderId, key, signal })),
        )
        // The key is the same for every attempt, also after a crash: the provider charges once per key.
        const { chargeId } = await step.run('charge', ({ idempotencyKey: key, signal }) =>
          payments.charge({ card, amountCents }, { orderId, key, signal }).catch(translate),
        )

        undo.push(() => step.run('cancel-parcel', ({ idempotencyKey }) => carrier.cancel(orderId, idempotencyKey)))
        const { trackingId } = await step.run('ship', ({ idempotencyKey }) =>
          carrier.book({ orderId, country }, idempotencyKey).catch(translate),
        )
        return { outcome: 'shipped' as const, chargeId, trackingId }
      } catch (error) {
        if (!(error instanceof StepError)) throw error
        for (const undoStep of undo.reverse()) await undoStep()
        return { outcome: 'cancelled' as const, failedStep: error.step, why: error.message }
      }
    },
  })
}

/** The providers know nothing of retries. This says which of their errors are worth another attempt, and when. */
function translate(error: unknown): never {
  if (error instanceof OutOfStockError || error instanceof UndeliverableError) {
    throw new NonRetriableError(error.message, { cause: error })
  }
  if (error instanceof PaymentError) {
    switch (error.status) {
      case 402:
        throw new NonRetriableError(error.message, { cause: error })
      case 429:
        throw new RetryAfterError(error.message, error.retryAfterMs, { cause: error })
    }
  }
  throw error
}
