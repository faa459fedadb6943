import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PATHS } from '../src/app.ts'
import { loadExamples } from '../src/demo/real-payloads.ts'
import { readDelivery, signDelivery } from '../src/webhooks/github-webhook.ts'
import { type Gatekeeper, startGatekeeper } from './gatekeeper.ts'

const BATCH = 25

describe('readDelivery', () => {
  const secret = "It's a Secret to Everybody"
  const body = Buffer.from('{"action":"opened"}')
  const delivery = { event: 'issues', id: 'd-1', signature: signDelivery(body, secret), body }

  test("signs as GitHub's documentation says", () => {
    // https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    expect(signDelivery(Buffer.from('Hello, World!'), secret)).toBe(
      'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
    )
  })

  test('makes one event of a delivery', () => {
    expect(readDelivery(delivery, secret)).toEqual({
      kind: 'event',
      event: { id: 'd-1', name: 'github.issues.opened', data: { action: 'opened' } },
    })
  })

  test.each([
    ['a wrong secret', { signature: signDelivery(body, 'another') }, 401],
    ['a tampered body', { body: Buffer.from('{"action":"closed"}') }, 401],
    ['no signature', { signature: undefined }, 401],
    ['a signature of another length', { signature: 'sha256=00' }, 401],
    ['a signature that is not ASCII', { signature: `sha256=${'é'.repeat(64)}` }, 401],
    ['no event', { event: undefined }, 400],
    ['an event that is no name', { event: 'a\nb' }, 400],
    ['no delivery id', { id: undefined }, 400],
  ])('refuses %s', (_, change, status) => {
    expect(readDelivery({ ...delivery, ...change }, secret)).toMatchObject({ kind: 'refused', status })
  })

  test.each(['', 'no json', '[]', 'null', '"text"', '\xff'])('refuses the signed body %j', text => {
    const bytes = Buffer.from(text, 'latin1')
    const signed = { ...delivery, body: bytes, signature: signDelivery(bytes, secret) }

    expect(readDelivery(signed, secret)).toMatchObject({ kind: 'refused', status: 400 })
  })
})

describe('the app', () => {
  let gatekeeper: Gatekeeper

  beforeAll(async () => {
    gatekeeper = await startGatekeeper()
  })

  afterAll(() => gatekeeper.stop())

  test('takes every payload that GitHub is known to send, and starts runs for opened pull requests only', async () => {
    const examples = loadExamples()
    const started: string[] = []
    for (let at = 0; at < examples.length; at += BATCH) {
      const batch = examples.slice(at, at + BATCH)
      const answers = await Promise.all(batch.map(example => gatekeeper.deliver(example)))
      for (const [place, { status, body }] of answers.entries()) {
        const { event = '', payload } = batch[place] ?? {}
        const name = typeof payload?.action === 'string' ? `github.${event}.${payload.action}` : `github.${event}`
        expect({ status, event: body.event }).toEqual({ status: 202, event: name })
        if ((body.runs ?? []).length > 0) started.push(name)
      }
    }

    expect(examples.length).toBeGreaterThan(700)
    expect(new Set(started)).toEqual(new Set(['github.pull_request.opened']))
  })

  test.each([
    ['no JSON', PATHS.orders, 'no json', 400],
    ['an unknown article', PATHS.orders, '{"sku":"gold"}', 400],
    ['half a bucket', PATHS.orders, '{"sku":"oak-bucket","quantity":0.5}', 400],
    ['a country that is none', PATHS.orders, '{"sku":"oak-bucket","country":"Mars"}', 400],
    ['an id with a control character', PATHS.orders, '{"sku":"oak-bucket","id":"a\\u0000b"}', 400],
    ['approving nobody', `${PATHS.users}/99/approve`, '', 404],
    ['approving what is no user', `${PATHS.users}/ada/approve`, '', 400],
    ['nobody', PATHS.users, '{}', 400],
    ['an address that is none', PATHS.users, '{"name":"Ada","email":"ada"}', 400],
    ['an unsigned webhook', PATHS.webhook, '{}', 401],
    ['a body of more than 1 MiB', PATHS.webhook, `{"a":"${'x'.repeat(1024 * 1024)}"}`, 413],
  ])('refuses %s with a reason', async (_, path, body, status) => {
    const answer = await fetch(`${gatekeeper.stack.appUrl}${path}`, {
      method: 'POST',
      body,
      // A server that has not read all of a body closes the connection: no later test is to be given it.
      headers: { connection: 'close' },
    })

    expect(answer.status).toBe(status)
    expect(await answer.json()).toEqual({ error: expect.any(String) })
  })

  test('shows what it did, with what others wrote escaped', async () => {
    await gatekeeper.post(PATHS.users, { name: '<script>alert(1)</script>', email: 'eve@example.com' })

    const page = await (await fetch(gatekeeper.stack.appUrl)).text()

    expect(page).toContain('&lt;script&gt;')
    expect(page).not.toContain('<script>')
  })

  test('says 503 while the engine is away, so that the sender comes again', async () => {
    await gatekeeper.stack.killEngine()

    const away = await gatekeeper.post(PATHS.orders, { sku: 'oak-bucket', id: 'late' })
    await gatekeeper.stack.startEngine()
    const back = await gatekeeper.post(PATHS.orders, { sku: 'oak-bucket', id: 'late' })

    expect(away).toMatchObject({ status: 503, body: { code: 'unavailable' } })
    expect(back).toMatchObject({ status: 202, body: { runs: [expect.any(String)] } })
  })
})
