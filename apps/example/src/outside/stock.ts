import type { Ledger } from './ledger.ts'

export interface Article {
  sku: string
  name: string
  priceCents: number
  /** How many there are, before reservations. */
  count: number
}

/** A quantity that left the shelf for an order; negative when it came back. */
export interface Movement {
  orderId: string
  sku: string
  quantity: number
}

/** There are not enough left. Asking again changes nothing. */
export class OutOfStockError extends Error {
  override readonly name = 'OutOfStockError'
}

export interface Stock {
  find(sku: string): Article | undefined
  /** @throws OutOfStockError */
  reserve(item: Movement, key: string): Promise<Movement>
  /** Gives back what the order has reserved, if anything. */
  release(orderId: string, key: string): Promise<Movement>
}

const ARTICLES: readonly Article[] = [
  { sku: 'oak-bucket', name: 'Oak bucket', priceCents: 4_900, count: 10_000 },
  { sku: 'hemp-rope', name: 'Hemp rope, 20 m', priceCents: 1_900, count: 10_000 },
  { sku: 'iron-crank', name: 'Iron crank', priceCents: 12_900, count: 0 },
]

/** A warehouse that remembers in the ledger. */
export function createStock(ledger: Ledger): Stock {
  const find = (sku: string) => ARTICLES.find(article => article.sku === sku)
  const movements = () =>
    // Every effect of this service is a movement: `reserve` and `release` below are all there is.
    ledger
      .lines()
      .flatMap(line => (line.kind === 'effect' && line.service === 'stock' ? [line.result as Movement] : []))

  return {
    find,
    async reserve(item, key) {
      const { orderId, sku, quantity } = item
      const effect = { service: 'stock', action: 'reserve', key, what: `${quantity} x ${sku} for ${orderId}` }
      return ledger.once(effect, () => {
        const left = (find(sku)?.count ?? 0) - sum(movements().filter(movement => movement.sku === sku))
        if (quantity <= left) return item
        const why = `${left} x ${sku} left, ${quantity} wanted`
        ledger.append({ kind: 'refusal', ...effect, why })
        throw new OutOfStockError(`Out of stock: ${why}.`)
      })
    },
    async release(orderId, key) {
      const held = movements().filter(movement => movement.orderId === orderId)
      const sku = held[0]?.sku ?? ''
      const effect = { service: 'stock', action: 'release', key, what: `${sum(held)} x ${sku} of ${orderId}` }
      return ledger.once(effect, () => ({ orderId, sku, quantity: -sum(held) }))
    },
  }
}

function sum(movements: readonly Movement[]): number {
  return movements.reduce((total, { quantity }) => total + quantity, 0)
}
