/** Bodies and paths of Gatekeeper's own routes: what is let in has the shape that the functions rely on. */
import type { Order } from './events.ts'
import { TEST_CARDS } from './outside/payments.ts'
import type { Article } from './outside/stock.ts'

/** What was asked for is malformed; the message says which member. The sender corrects it. */
export class BodyError extends Error {
  override readonly name = 'BodyError'
}

const MAX_TEXT_CHARS = 200
const MAX_QUANTITY = 100

/** @throws BodyError */
export function readPerson(body: unknown): { name: string; email: string } {
  const { name, email } = membersOf(body)
  const address = readText('email', email)
  if (!/^[^\s@]+@[^\s@]+$/.test(address)) throw new BodyError('"email" is no address, such as "ada@example.com".')
  return { name: readText('name', name), email: address }
}

/**
 * @param newId used when the sender gives no `id` of its own
 * @throws BodyError
 */
export function readOrder(body: unknown, find: (sku: string) => Article | undefined, newId: () => string): Order {
  const { id, sku, quantity = 1, card = TEST_CARDS.works, country = 'NL' } = membersOf(body)
  const article = find(readText('sku', sku))
  if (article === undefined) throw new BodyError(`There is no article "${String(sku)}". Try "oak-bucket".`)
  if (typeof quantity !== 'number' || !Number.isInteger(quantity) || quantity < 1 || quantity > MAX_QUANTITY) {
    throw new BodyError(`"quantity" is no whole number from 1 to ${MAX_QUANTITY}.`)
  }
  const land = readText('country', country)
  if (!/^[A-Z]{2}$/.test(land)) throw new BodyError('"country" is no code of two capital letters, such as "NL".')
  return {
    id: id === undefined ? newId() : readText('id', id),
    sku: article.sku,
    quantity,
    amountCents: article.priceCents * quantity,
    card: readText('card', card),
    country: land,
  }
}

/** @throws BodyError */
export function readId(text: string): number {
  if (/^[0-9]{1,9}$/.test(text)) return Number(text)
  throw new BodyError('The id of a user is a whole number.')
}

function membersOf(body: unknown): Record<string, unknown> {
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new BodyError('The body is no JSON object.')
  return { ...body }
}

function readText(name: string, value: unknown): string {
  // Control characters and halves of characters are in no name, and no id of an event may have them.
  const isText = typeof value === 'string' && value !== '' && !/[\p{Cc}\p{Cs}]/u.test(value)
  if (isText && value.length <= MAX_TEXT_CHARS) return value
  throw new BodyError(`"${name}" is no text of 1 to ${MAX_TEXT_CHARS} characters.`)
}
