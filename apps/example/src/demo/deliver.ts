/** Sends to Gatekeeper what GitHub and other people would send. */
import { PATHS } from '../app.ts'
import { signDelivery } from '../webhooks/github-webhook.ts'
import type { Example } from './real-payloads.ts'

export interface Answer {
  status: number
  body: { id?: string; runs?: string[]; error?: string; event?: string; [extra: string]: unknown }
}

const TIMEOUT_MS = 20_000

/** One webhook, signed as GitHub signs it. The same delivery id stands for a redelivery. */
export async function deliverWebhook(
  appUrl: string,
  delivery: { example: Example<unknown>; deliveryId: string; secret: string },
): Promise<Answer> {
  const body = Buffer.from(JSON.stringify(delivery.example.payload))
  return post(`${appUrl}${PATHS.webhook}`, body, {
    'x-github-event': delivery.example.event,
    'x-github-delivery': delivery.deliveryId,
    'x-hub-signature-256': signDelivery(body, delivery.secret),
  })
}

/** A request with a JSON body to one of the other routes. */
export function postJson(appUrl: string, path: string, body: unknown): Promise<Answer> {
  return post(`${appUrl}${path}`, Buffer.from(JSON.stringify(body)), {})
}

/** What one of the other routes answers. */
export async function getJson(appUrl: string, path: string): Promise<Answer> {
  const answer = await fetch(`${appUrl}${path}`, { signal: AbortSignal.timeout(TIMEOUT_MS) })
  return { status: answer.status, body: (await answer.json()) as Answer['body'] }
}

async function post(url: string, body: Buffer, headers: Record<string, string>): Promise<Answer> {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: new Uint8Array(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
  // What the app's routes answer, also when they refuse.
  return { status: answer.status, body: (await answer.json()) as Answer['body'] }
}
