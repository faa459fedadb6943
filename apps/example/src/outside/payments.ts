import { setTimeout as delay } from 'node:timers/promises'
import type { Ledger } from './ledger.ts'

/** What the provider was asked for, and by whom. */
export interface PaymentCall {
  orderId: string
  /** The same key never charges twice, however often the app asks. */
  key: string
  /** The caller no longer wants the answer. What was charged stays charged. */
  signal: AbortSignal
}

/** The provider's own error: it knows nothing of steps and retries. */
export class PaymentError extends Error {
  override readonly name = 'PaymentError'
  /** 402: the bank said no. 429: too many requests, come back after `retryAfterMs`. */
  readonly status: 402 | 429
  readonly retryAfterMs: number

  constructor(status: 402 | 429, message: string, retryAfterMs = 0) {
    super(message)
    this.status = status
    this.retryAfterMs = retryAfterMs
  }
}

export interface Payments {
  /** @throws PaymentError */
  charge(payment: { card: string; amountCents: number }, call: PaymentCall): Promise<{ chargeId: string }>
  /** Gives back what was charged for the order, if anything. */
  refund(call: PaymentCall): Promise<{ refundedCents: number }>
}

/** Cards that behave as payment providers' test cards do. */
export const TEST_CARDS = { works: 'card-works', declined: 'card-declined', busy: 'card-busy' } as const

const BUSY_ATTEMPTS = 1
const BUSY_RETRY_AFTER_MS = 300

interface Charge {
  chargeId: string
  orderId: string
  amountCents: number
}

/**
 * A payment provider that remembers in the ledger. It acts at once and answers late, as providers do: an app that is
 * killed in between has charged the card and does not know it.
 */
export function createPayments(ledger: Ledger, options: { answerAfterMs: number }): Payments {
  const charges = () =>
    ledger.lines().flatMap(line => {
      const isCharge = line.kind === 'effect' && line.service === 'payments' && line.action === 'charge'
      // What `charge` below has put there.
      return isCharge ? [line.result as Charge] : []
    })

  return {
    async charge({ card, amountCents }, { orderId, key, signal }) {
      const what = `${formatCents(amountCents)} for ${orderId}`
      const effect = { service: 'payments', action: 'charge', key, what }
      const refuse = (error: PaymentError) => {
        ledger.append({ kind: 'refusal', ...effect, why: error.message })
        return error
      }
      const charge = ledger.once(effect, (): Charge => {
        if (card === TEST_CARDS.declined) throw refuse(new PaymentError(402, 'The bank declined the card.'))
        if (card === TEST_CARDS.busy && refusalsOf(ledger, key) < BUSY_ATTEMPTS) {
          throw refuse(new PaymentError(429, 'Too many requests.', BUSY_RETRY_AFTER_MS))
        }
        return { chargeId: `ch-${charges().length + 1}`, orderId, amountCents }
      })
      await delay(options.answerAfterMs, undefined, { signal })
      return { chargeId: charge.chargeId }
    },
    async refund({ orderId, key }) {
      const refundedCents = charges()
        .filter(charge => charge.orderId === orderId)
        .reduce((total, { amountCents }) => total + amountCents, 0)
      const what = `${formatCents(refundedCents)} for ${orderId}`
      return ledger.once({ service: 'payments', action: 'refund', key, what }, () => ({ refundedCents }))
    },
  }
}

function refusalsOf(ledger: Ledger, key: string): number {
  return ledger.lines().filter(line => line.kind === 'refusal' && line.key === key).length
}

function formatCents(cents: number): string {
  return `${(cents / 100).toFixed(2)} EUR`
}
