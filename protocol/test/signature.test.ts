import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  fingerprint,
  isSecret,
  newMessageId,
  payloadOf,
  responseId,
  sign,
  signHeaders,
  type Verified,
  verify,
} from '../src/index.ts'
import { readVectors } from './vectors.ts'

interface Case {
  name: string
  keys: string[]
  nowMs: number
  headers: { id: string | null; timestamp: string | null; signature: string | null }
  payload?: string
  payloadBase64?: string
  expect: { ok: true; id: string } | { ok: false; code: string; mentions: string[] }
}

const vectors = readVectors<{
  cases: Case[]
  signing: { name: string; id: string; nowMs: number; keys: string[]; payload: string; headers: object }[]
  payloads: { method: string; pathAndQuery: string; body: string | null; payload: string }[]
  keys: { accepted: { key: string; fingerprint: string }[]; refused: { key: string; because: string }[] }
}>('signature.json')

const KEY = vectors.keys.accepted[1]?.key ?? ''
const OTHER_KEY = vectors.keys.accepted[2]?.key ?? ''
const NOW_MS = 1_767_225_600_000

describe('the vectors of signatures', () => {
  test.each(vectors.cases)('$name', ({ headers, keys, nowMs, payload, payloadBase64, expect: expected }) => {
    const bytes = payloadBase64 === undefined ? Buffer.from(payload ?? '') : Buffer.from(payloadBase64, 'base64')

    const verified = verify({ headers, payload: bytes, secrets: keys, nowMs })

    if (expected.ok) {
      expect(verified).toEqual(expected)
      return
    }
    expect(verified).toMatchObject({ ok: false, code: expected.code })
    for (const mention of expected.mentions) expect(messageOf(verified)).toContain(mention)
    for (const key of keys) expect(messageOf(verified)).not.toContain(key.trim().slice(6, 20))
  })

  test.each(vectors.signing)('is sent: $name', ({ id, nowMs, keys, payload, headers }) => {
    expect(signHeaders({ id, nowMs, payload, secrets: keys })).toEqual(headers)
    expect(signHeaders({ id, nowMs, payload: Buffer.from(payload), secrets: keys })).toEqual(headers)
  })

  test.each(vectors.payloads)('$method $pathAndQuery with the body $body signs $payload', vector => {
    const { method, pathAndQuery, body, payload } = vector

    expect(payloadOf(method, pathAndQuery, body)).toBe(payload)
    if (body !== null) expect(String(payloadOf(method, pathAndQuery, Buffer.from(body)))).toBe(payload)
  })

  test.each(vectors.keys.accepted)('a key has the fingerprint $fingerprint', ({ key, fingerprint: expected }) => {
    expect(isSecret(key)).toBe(true)
    expect(fingerprint(key)).toBe(expected)
  })

  test.each(vectors.keys.refused)('a key is refused: $because', ({ key }) => {
    expect(isSecret(key)).toBe(false)
    expect(() => fingerprint(key)).toThrow(TypeError)
    expect(() => sign({ id: 'msg_1', timestampSeconds: 1, payload: '', secret: key })).toThrow(/malformed/)
  })
})

test('a signature is the HMAC that the standard describes, for any bytes', () => {
  const secret = fc.uint8Array({ minLength: 24, maxLength: 64 })
  fc.assert(
    fc.property(secret, fc.nat(4_000_000_000), fc.uint8Array(), (key, timestampSeconds, payload) => {
      const content = Buffer.concat([Buffer.from(`msg_1.${timestampSeconds}.`), payload])
      const expected = createHmac('sha256', key).update(content).digest('base64')

      const signature = sign({ id: 'msg_1', timestampSeconds, payload, secret: secretOf(key) })

      expect(signature).toBe(`v1,${expected}`)
    }),
  )
})

test('what is signed is accepted, and refused after any change of one byte', () => {
  const payloads = fc.uint8Array({ minLength: 1, maxLength: 200 })
  fc.assert(
    fc.property(payloads, fc.nat(), fc.integer({ min: 1, max: 255 }), (payload, at, flip) => {
      const id = newMessageId()
      const sent = signHeaders({ id, nowMs: NOW_MS, payload, secrets: [KEY, OTHER_KEY] })
      const changed = payload.map((byte, i) => (i === at % payload.length ? byte ^ flip : byte))

      const intact = verify({ headers: received(sent), payload, secrets: [OTHER_KEY], nowMs: NOW_MS })
      const tampered = verify({ headers: received(sent), payload: changed, secrets: [OTHER_KEY], nowMs: NOW_MS })

      expect(intact).toEqual({ ok: true, id })
      expect(tampered).toMatchObject({ ok: false, code: 'signature_invalid' })
    }),
  )
})

test('a text and its UTF-8 bytes have the same signature', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), text => {
      const message = { id: 'msg_1', timestampSeconds: 1, secret: KEY }

      expect(sign({ ...message, payload: text })).toBe(sign({ ...message, payload: Buffer.from(text) }))
    }),
  )
})

test('garbage in headers and body never throws and is never accepted', () => {
  const header = fc.oneof(
    fc.constant('msg_1'),
    fc.constant(String(NOW_MS / 1000)),
    fc.string({ unit: 'binary' }),
    fc.base64String().map(text => `v1,${text}`),
    fc.anything(),
  )
  fc.assert(
    fc.property(header, header, header, fc.uint8Array(), (id, timestamp, signature, payload) => {
      // Servers without types hand over whatever they parsed.
      const headers = { id, timestamp, signature } as Case['headers']

      const verified = verify({ headers, payload, secrets: [KEY], nowMs: NOW_MS })

      expect(verified.ok).toBe(false)
    }),
    { numRuns: 2_000 },
  )
})

test('garbage as a key is no key, and the error does not show it', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.base64String().map(text => `whsec_${text}`),
      ),
      text => {
        fc.pre(!isSecret(text))
        const errorOf = () => fingerprint(text)

        expect(errorOf).toThrow(TypeError)
        if (text.trim().length > 12) expect(errorOf).not.toThrow(text.trim())
      },
    ),
  )
})

test('a malformed key of our own is a TypeError, not a refusal of the message', () => {
  const sent = signHeaders({ id: 'msg_1', nowMs: NOW_MS, payload: '', secrets: [KEY] })

  expect(() => verify({ headers: received(sent), payload: '', secrets: ['secret'], nowMs: NOW_MS })).toThrow(TypeError)
})

test('nothing is signed without a key', () => {
  expect(() => signHeaders({ id: 'msg_1', nowMs: NOW_MS, payload: '', secrets: [] })).toThrow(TypeError)
})

test('message ids are new each time, and acceptable as their answers are', () => {
  const ids = Array.from({ length: 1_000 }, newMessageId)

  expect(new Set(ids).size).toBe(1_000)
  for (const id of ids.slice(0, 10)) {
    const sent = signHeaders({ id: responseId(id), nowMs: NOW_MS, payload: 'x', secrets: [KEY] })
    const verified = verify({ headers: received(sent), payload: 'x', secrets: [KEY], nowMs: NOW_MS })
    expect(verified).toEqual({ ok: true, id: `re_${id}` })
  }
})

function received(sent: ReturnType<typeof signHeaders>): Case['headers'] {
  return { id: sent['webhook-id'], timestamp: sent['webhook-timestamp'], signature: sent['webhook-signature'] }
}

function secretOf(key: Uint8Array): string {
  return `whsec_${Buffer.from(key).toString('base64')}`
}

function messageOf(verified: Verified): string {
  return verified.ok ? '' : verified.message
}
