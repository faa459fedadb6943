import { NonRetriableError, RetryAfterError } from '@stepwell/sdk'
import { UndeliverableError } from '../outside/carrier.ts'
import { PaymentError } from '../outside/payments.ts'
import { OutOfStockError } from '../outside/stock.ts'

/** The providers know nothing of retries. This says which of their errors are worth another attempt, and when. */
export function wishOf(error: unknown): never {
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
