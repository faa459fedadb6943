/**
 * Standard Webhooks signatures, both ways (SPEC.md section 2).
 *
 * A message is signed as the bytes `id.timestamp.payload` with HMAC-SHA256, once per key while keys rotate. The
 * receiver computes the same over the raw bytes that it received: it never parses and re-serialises JSON, because no
 * two languages write the same value as the same bytes. A key is shown to people by its fingerprint only.
 */
import { createHash, createHmac, createSecretKey, type KeyObject, randomUUID, timingSafeEqual } from 'node:crypto'
import { HEADERS } from './headers.ts'
import { LIMITS } from './limits.ts'
import { parseSecret } from './secret.ts'

export { createReplayGuard, type ReplayGuard } from './replay-guard.ts'
export { isSecret, parseSecret } from './secret.ts'

/** Outcome of a check: the id of the message, or why it is refused. The message never contains a key. */
export type Verified =
  | { ok: true; id: string }
  | {
      ok: false
      code: 'signature_missing' | 'signature_invalid' | 'timestamp_out_of_tolerance'
      message: string
    }

/** The three headers as they were received; absent ones are null or undefined. */
export interface SignatureHeaders {
  id: string | null | undefined
  timestamp: string | null | undefined
  signature: string | null | undefined
}

/** The three headers as they are sent. */
export interface SignedHeaders {
  'webhook-id': string
  'webhook-timestamp': string
  'webhook-signature': string
}

/** How many entries of a signature list are looked at; a sender has one per key and seldom more than two keys. */
const MAX_SIGNATURES = 32

/** 1 to 128 characters, and the prefix that an answer puts before the id of its request. */
const MESSAGE_ID = /^(?:re_)?[A-Za-z0-9_-]{1,128}$/

/** Ten digits until the year 2286; more than fifteen would not be an exact number. */
const TIMESTAMP = /^[0-9]{1,15}$/

/**
 * One signature, `v1,` and base64, of the bytes of `payload` under one key.
 * @param message `timestampSeconds` is Unix time in whole seconds; `secret` is `whsec_` and base64
 * @throws TypeError when the secret is malformed
 */
export function sign(message: {
  id: string
  timestampSeconds: number
  payload: string | Uint8Array
  secret: string
}): string {
  return `v1,${digest(message.id, String(message.timestampSeconds), message.payload, message.secret)}`
}

/**
 * The three headers of a message that is sent now: one signature per key, separated by one space.
 * @param message `nowMs` is Unix time in milliseconds; `secrets` are the sender's keys, at least one
 * @throws TypeError when there is no secret or one is malformed
 */
export function signHeaders(message: {
  id: string
  nowMs: number
  payload: string | Uint8Array
  secrets: readonly string[]
}): SignedHeaders {
  const { id, nowMs, payload, secrets } = message
  if (secrets.length === 0) throw new TypeError('There is no key to sign with. Configure one: `whsec_` and base64.')
  const timestampSeconds = Math.floor(nowMs / 1000)
  const signatures = secrets.map(secret => sign({ id, timestampSeconds, payload, secret }))
  return {
    [HEADERS.id]: id,
    [HEADERS.timestamp]: String(timestampSeconds),
    [HEADERS.signature]: signatures.join(' '),
  }
}

/**
 * Is this message from somebody who holds one of our keys, unchanged and recent? Returns a value for everything that
 * comes from outside. The caller still refuses ids that it has seen (`createReplayGuard`), and, when the message is an
 * answer, ids other than `responseId` of its request.
 * @param message `payload` is the raw body (or `payloadOf` a request without one); `nowMs` is Unix time in milliseconds
 * @throws TypeError when one of our own secrets is malformed
 */
export function verify(message: {
  headers: SignatureHeaders
  payload: string | Uint8Array
  secrets: readonly string[]
  nowMs: number
}): Verified {
  const { headers, payload, secrets, nowMs } = message
  const id = trimField(headers.id)
  const timestamp = trimField(headers.timestamp)
  const signature = trimField(headers.signature)
  if (!id || !timestamp || !signature) {
    return { ok: false, code: 'signature_missing', message: explainMissing(id, timestamp, signature) }
  }
  if (!MESSAGE_ID.test(id)) {
    return refuseInvalid(`${HEADERS.id} must be 1 to 128 letters, digits, "_" or "-".`, message)
  }
  if (!TIMESTAMP.test(timestamp)) {
    return refuseInvalid(`${HEADERS.timestamp} must be Unix seconds in digits.`, message)
  }
  const aheadSeconds = Number(timestamp) - Math.floor(nowMs / 1000)
  if (Math.abs(aheadSeconds) > LIMITS.toleranceSeconds) {
    return { ok: false, code: 'timestamp_out_of_tolerance', message: explainTolerance(aheadSeconds) }
  }
  const given = signature.split(' ', MAX_SIGNATURES).filter(entry => entry.startsWith('v1,'))
  if (given.length === 0) {
    return refuseInvalid(`${HEADERS.signature} has no entry of scheme v1 ("v1," and base64).`, message)
  }
  const candidates = given.map(entry => Buffer.from(entry.slice(3)))
  for (const secret of secrets) {
    const expected = Buffer.from(digest(id, timestamp, payload, secret))
    if (candidates.some(candidate => isEqual(candidate, expected))) return { ok: true, id }
  }
  return refuseInvalid('The signature does not match.', message)
}

/**
 * The first 8 hex digits of the SHA-256 of the key's bytes: how a key is named in messages.
 * @throws TypeError when the secret is malformed
 */
export function fingerprint(secret: string): string {
  return createHash('sha256').update(parseSecret(secret)).digest('hex').slice(0, 8)
}

/** What is signed: the raw body, or `METHOD path?query` for a request whose body is absent or empty. */
export function payloadOf(
  method: string,
  pathAndQuery: string,
  body: string | Uint8Array | null | undefined,
): string | Uint8Array {
  if (body === null || body === undefined || body.length === 0) return `${method.toUpperCase()} ${pathAndQuery}`
  return body
}

/** A new `webhook-id`: `msg_` and 32 random hex digits. New for every HTTP request, also for one that repeats another. */
export function newMessageId(): string {
  return `msg_${randomUUID().replaceAll('-', '')}`
}

/** The `webhook-id` of the answer to a request: bound to it, and never equal to it. */
export function responseId(requestId: string): string {
  return `re_${requestId}`
}

/** RFC 9110 5.5: whitespace around a field value is no part of it; not every server has removed it. */
function trimField(value: unknown): string | undefined {
  // Some servers give a list when a header came twice: that is no single value to trust.
  return typeof value === 'string' ? value.trim() : undefined
}

function digest(id: string, timestamp: string, payload: string | Uint8Array, secret: string): string {
  return createHmac('sha256', keyOf(secret)).update(`${id}.${timestamp}.`).update(payload).digest('base64')
}

/** More than a process has in use, and few enough to keep. */
const MAX_KEYS = 100

/**
 * Keys as OpenSSL wants them. The one thing here that outlives a call: decoding a key and handing it over takes as long as
 * signing a short message with it.
 */
const keys = new Map<string, KeyObject>()

function keyOf(secret: string): KeyObject {
  const known = keys.get(secret)
  if (known !== undefined) return known
  const key = createSecretKey(parseSecret(secret))
  if (keys.size >= MAX_KEYS) keys.clear()
  keys.set(secret, key)
  return key
}

/** Compares as text, so that no second spelling of a signature passes. The lengths are no secret. */
function isEqual(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

function explainMissing(id: string | undefined, timestamp: string | undefined, signature: string | undefined): string {
  const missing: string[] = []
  if (!id) missing.push(HEADERS.id)
  if (!timestamp) missing.push(HEADERS.timestamp)
  if (!signature) missing.push(HEADERS.signature)
  return `The message is not signed: ${missing.join(', ')} missing. Sign it with the workspace's key, and let proxies pass these headers on.`
}

function explainTolerance(aheadSeconds: number): string {
  const where = aheadSeconds > 0 ? 'in the future' : 'in the past'
  return `${HEADERS.timestamp} is ${Math.abs(aheadSeconds)} s ${where}; at most ${LIMITS.toleranceSeconds} s are accepted. Check the clocks of both machines, and sign again when sending again.`
}

function refuseInvalid(
  what: string,
  message: { headers: SignatureHeaders; secrets: readonly string[] },
): Extract<Verified, { ok: false }> {
  const { headers, secrets } = message
  const told = [what]
  if (secrets.length === 0) {
    told.push('This receiver has no key: configure one.')
  } else {
    const fingerprints = secrets.map(fingerprint).join(', ')
    told.push(
      `This receiver's ${secrets.length === 1 ? 'key has' : 'keys have'} the SHA-256 fingerprint ${fingerprints}.`,
      'Is it the same key on both sides?',
      'Is the body verified as the raw bytes received, before anything parses, decodes or rewrites it?',
    )
  }
  const padded = Object.entries(headers).filter(([, value]) => typeof value === 'string' && value !== value.trim())
  if (padded.length > 0) {
    const names = padded.map(([name]) => `webhook-${name}`).join(', ')
    told.push(`There is whitespace around ${names}: it was ignored here; check that the sender did not sign it.`)
  }
  if (secrets.some(secret => secret !== secret.trim())) {
    told.push('There is whitespace around a key of this receiver: it was ignored here; check the sender for the same.')
  }
  return { ok: false, code: 'signature_invalid', message: told.join(' ') }
}
