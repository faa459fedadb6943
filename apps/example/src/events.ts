import type { PullRequestPayload, ReviewPayload } from './webhooks/payload.ts'

/** An order as it was placed. */
export interface Order {
  id: string
  sku: string
  quantity: number
  amountCents: number
  card: string
  /** ISO 3166, two letters. */
  country: string
}

/** The events that functions start from or wait for. Other webhooks become events too, for functions yet to come. */
export type Events = {
  'github.pull_request.opened': PullRequestPayload
  'github.pull_request.closed': PullRequestPayload
  'github.pull_request_review.submitted': ReviewPayload
  'user.created': { id: number }
  'approval.received': { userId: number }
  'order.placed': Order
}
