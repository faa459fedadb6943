import type { Ledger } from './ledger.ts'

/** Nobody delivers there. Asking again changes nothing. */
export class UndeliverableError extends Error {
  override readonly name = 'UndeliverableError'
}

export interface Carrier {
  /** @param parcel `reference`: by which the carrier names it to us. @throws UndeliverableError */
  book(parcel: { orderId: string; country: string; reference: string }, key: string): Promise<{ trackingId: string }>
  /** Takes back the booking of the order, if there is one. */
  cancel(orderId: string, key: string): Promise<{ cancelled: number }>
}

// Antarctica has a country code and no parcel service.
const UNDELIVERABLE = new Set(['AQ'])

/** A parcel service that remembers in the ledger. */
export function createCarrier(ledger: Ledger): Carrier {
  return {
    async book({ orderId, country, reference }, key) {
      const effect = {
        service: 'carrier',
        action: 'book',
        key,
        what: `${orderId} to ${country}, reference ${reference}`,
      }
      return ledger.once(effect, () => {
        if (!UNDELIVERABLE.has(country)) return { orderId, reference, trackingId: `pk-${ledger.lines().length + 1}` }
        const why = `nobody delivers to ${country}`
        ledger.append({ kind: 'refusal', ...effect, why })
        throw new UndeliverableError(`The parcel cannot be booked: ${why}.`)
      })
    },
    async cancel(orderId, key) {
      const booked = ledger.lines().filter(line => {
        if (line.kind !== 'effect' || line.service !== 'carrier' || line.action !== 'book') return false
        // What `book` above has put there.
        return (line.result as { orderId: string }).orderId === orderId
      }).length
      const what = `${booked} bookings of ${orderId}`
      return ledger.once({ service: 'carrier', action: 'cancel', key, what }, () => ({ cancelled: booked }))
    },
  }
}
