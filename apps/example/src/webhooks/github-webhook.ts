/** From a GitHub webhook to an event: https://docs.github.com/en/webhooks/webhook-events-and-payloads */
import { createHmac, timingSafeEqual } from 'node:crypto'

/** What GitHub sent, as it came. */
export interface Delivery {
  /** `X-GitHub-Event`: `pull_request`. */
  event: string | undefined
  /** `X-GitHub-Delivery`: an id that a redelivery keeps. */
  id: string | undefined
  /** `X-Hub-Signature-256`: `sha256=` and hex. */
  signature: string | undefined
  /** The bytes that were signed. */
  body: Uint8Array
}

/** An event to send, or why the delivery is not taken. */
export type ReadDelivery =
  | { kind: 'event'; event: { id: string; name: string; data: Record<string, unknown> } }
  | { kind: 'refused'; status: 400 | 401; why: string }

/**
 * Checks the signature, then makes one event of the delivery: its payload as data, `github.<event>.<action>` as name and
 * the delivery's id as id, so that a redelivery is the same event and starts nothing twice.
 */
export function readDelivery(delivery: Delivery, secret: string): ReadDelivery {
  const { event, id, signature, body } = delivery
  if (signature === undefined || !isSignedBy(body, signature, secret)) {
    return refused(401, 'The X-Hub-Signature-256 does not fit. Is the secret of the webhook GATEKEEPER_HOOK_SECRET?')
  }
  if (event === undefined || !/^[a-z0-9_]{1,100}$/.test(event))
    return refused(400, 'The X-GitHub-Event header is missing.')
  if (id === undefined || id === '') return refused(400, 'The X-GitHub-Delivery header is missing.')
  const data = readObject(body)
  if (data === null) {
    return refused(400, 'The body is no JSON object. Set the content type of the webhook to application/json.')
  }
  const { action } = data
  const name = typeof action === 'string' ? `github.${event}.${action}` : `github.${event}`
  return { kind: 'event', event: { id, name, data } }
}

/** The value of `X-Hub-Signature-256` for a body. */
export function signDelivery(body: Uint8Array, secret: string): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
}

function isSignedBy(body: Uint8Array, signature: string, secret: string): boolean {
  const expected = Buffer.from(signDelivery(body, secret))
  const given = Buffer.from(signature)
  return given.length === expected.length && timingSafeEqual(given, expected)
}

function readObject(body: Uint8Array): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
    // A JSON object is a record; null and arrays are not.
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null
  } catch {
    return null
  }
}

function refused(status: 400 | 401, why: string): ReadDelivery {
  return { kind: 'refused', status, why }
}
