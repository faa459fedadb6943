import { hkdfSync } from 'node:crypto'
import { decodeJwt, SignJWT } from 'jose'
import { describe, expect, test } from 'vitest'
import { createStreamToken, verifyStreamToken } from '../../src/http/stream-tokens.ts'
import { aKey } from './harness.ts'

const NOW_MS = Date.parse('2026-03-01T12:00:00.000Z')
const [KEY, OLD_KEY, FOREIGN_KEY] = [aKey(), aKey(), aKey()]

const bytesOf = (secret: string) => new Uint8Array(Buffer.from(secret.slice('whsec_'.length), 'base64'))

function aGate(keys: string[], name = 'shop/prod') {
  const catalog = { name, keys } as never
  return { findWorkspace: async (wanted: string | undefined) => (wanted === name ? catalog : null) }
}

async function aToken(given: { keys?: string[]; ttlMs?: number; name?: string; channels?: string[] | null } = {}) {
  const { keys = [KEY], ttlMs = 60_000, name = 'shop/prod', channels = null } = given
  const made = await createStreamToken({ name, keys }, { run: 'run_a', channels, ttlMs, nowMs: NOW_MS })
  return made.token
}

const refusalOf = (token: string, keys = [KEY], nowMs = NOW_MS) =>
  verifyStreamToken(aGate(keys), token, nowMs).then(
    () => null,
    error => error,
  )

describe('a token for a stream', () => {
  test('says what it is for and until when, and no secret', async () => {
    const { token, expiresAt } = await createStreamToken(
      { name: 'shop/prod', keys: [KEY] },
      { run: 'run_a', channels: ['progress'], ttlMs: 60_000, nowMs: NOW_MS },
    )

    expect(expiresAt).toBe('2026-03-01T12:01:00.000Z')
    expect(decodeJwt(token)).toEqual({
      workspace: 'shop/prod',
      run: 'run_a',
      channels: ['progress'],
      aud: 'stepwell-stream',
      iat: NOW_MS / 1000,
      exp: NOW_MS / 1000 + 60,
    })
    const { grant } = await verifyStreamToken(aGate([KEY]), token, NOW_MS)
    expect(grant).toEqual({ run: 'run_a', channels: ['progress'], expiresAtMs: NOW_MS + 60_000 })
  })

  test('is made with the newest key, and good under each that the workspace has', async () => {
    const old = await aToken({ keys: [OLD_KEY] })
    const rotated = await aToken({ keys: [KEY, OLD_KEY] })

    expect(await refusalOf(old, [KEY, OLD_KEY])).toBeNull()
    expect(await refusalOf(rotated, [KEY])).toBeNull()
  })

  test('is refused when the key is gone, was never there, or is of another workspace', async () => {
    const tokens = [
      await aToken({ keys: [OLD_KEY] }),
      await aToken({ keys: [FOREIGN_KEY] }),
      await aToken({ name: 'b/x' }),
    ]

    for (const token of tokens) {
      const error = await refusalOf(token)
      expect(error).toMatchObject({ code: 'stream_token_invalid', status: 401 })
      expect(error.message).toContain('client.createStreamToken')
      expect(error.message).not.toContain(token)
    }
  })

  test('is refused from the second on at which it expires', async () => {
    const token = await aToken({ ttlMs: 1_000 })

    expect(await refusalOf(token, [KEY], NOW_MS + 999)).toBeNull()
    const error = await refusalOf(token, [KEY], NOW_MS + 1_000)
    expect(error).toMatchObject({ code: 'stream_token_expired', status: 401 })
    expect(error.message).toContain('2026-03-01T12:00:01.000Z')
  })

  test('is refused when something was changed in it', async () => {
    const token = await aToken({ channels: ['a'] })
    const [head, , signature] = token.split('.')
    const claims = { ...decodeJwt(token), run: 'run_b' }
    const changed = [head, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.')

    expect(await refusalOf(changed)).toMatchObject({ code: 'stream_token_invalid' })
  })

  /** What SPEC 13.5 says, written a second time. */
  const derived = new Uint8Array(hkdfSync('sha256', bytesOf(KEY), '', 'stepwell-stream-token', 32))
  const aJwt = (given: { key?: Uint8Array; alg?: string; audience?: string; claims?: object }) =>
    new SignJWT({ workspace: 'shop/prod', run: 'run_a', ...given.claims })
      .setProtectedHeader({ alg: given.alg ?? 'HS256' })
      .setAudience(given.audience ?? 'stepwell-stream')
      .setExpirationTime(NOW_MS / 1000 + 60)
      .sign(given.key ?? derived)

  test('may be made by whoever has the key', async () => {
    expect(await refusalOf(await aJwt({}))).toBeNull()
  })

  test.each([
    ['the signing key itself', { key: bytesOf(KEY) }],
    ['another audience', { audience: 'something-else' }],
    ['another algorithm', { alg: 'HS512' }],
    ['channels that are no list', { claims: { channels: 'all' } }],
    ['a run that is no text', { claims: { run: 7 } }],
  ])('is refused when it is made with %s', async (_what, given) => {
    expect(await refusalOf(await aJwt(given))).toMatchObject({ code: 'stream_token_invalid' })
  })

  const unsigned = (claims: object) =>
    `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.`

  test.each([
    ['nothing', ''],
    ['no JWT', 'abc'],
    ['three parts of nothing', '..'],
    ['a token without a signature', unsigned({ workspace: 'shop/prod', run: 'run_a', exp: 9e9 })],
    ['claims that are no object', `e30.${Buffer.from('7').toString('base64url')}.x`],
    ['a workspace that is no text', unsigned({ workspace: { a: 1 }, run: 'run_a', exp: 9e9 })],
    ['more than anybody reads', 'a'.repeat(100_000)],
  ])('that is %s is refused', async (_what, token) => {
    expect(await refusalOf(token)).toMatchObject({ code: 'stream_token_invalid', status: 401 })
  })
})
