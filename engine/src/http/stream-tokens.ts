/*
 * Tokens with which a web page, which has no key, follows one run for a while: JWTs under a key that is derived from a signing
 * key of the workspace (SPEC.md 13.5). Nothing is stored; whoever has the token may read the stream until it expires.
 */
import { hkdfSync } from 'node:crypto'
import { LIMITS, parseSecret, type StreamTokenAnswer } from '@stepwell/protocol'
import { decodeJwt, errors, type JWTPayload, jwtVerify, SignJWT } from 'jose'
import type { Catalog } from '../core/catalog.ts'
import { EngineError } from '../core/errors.ts'
import type { Gate } from './gate.ts'

const ALGORITHM = 'HS256'
const AUDIENCE = 'stepwell-stream'
const KEY_INFO = 'stepwell-stream-token'
const KEY_BYTES = 32
const TOKEN_CHARS_MAX = 32 * 1024
const NEW_ONE = 'Get a new one from the app\'s server: client.createStreamToken("run_…").'

/** What a token allows. */
export interface StreamGrant {
  /** `run_…`, in lower case. */
  run: string
  /** Null for all. */
  channels: string[] | null
  expiresAtMs: number
}

/** A token for one run. */
export async function createStreamToken(
  catalog: Pick<Catalog, 'name' | 'keys'>,
  wanted: { run: string; channels: string[] | null; ttlMs: number; nowMs: number },
): Promise<StreamTokenAnswer> {
  const [newest] = catalog.keys
  if (newest === undefined) throw new Error(`Workspace ${catalog.name} has no key.`)
  const { run, channels, ttlMs, nowMs } = wanted
  const expiresAtSeconds = Math.ceil((nowMs + ttlMs) / 1000)
  const token = await new SignJWT({ workspace: catalog.name, run, ...(channels !== null && { channels }) })
    .setProtectedHeader({ alg: ALGORITHM, typ: 'JWT' })
    .setAudience(AUDIENCE)
    .setIssuedAt(Math.floor(nowMs / 1000))
    .setExpirationTime(expiresAtSeconds)
    .sign(keyOf(newest))
  return { token, expiresAt: new Date(expiresAtSeconds * 1000).toISOString() }
}

/** The workspace that a token is of and what it allows. Throws `stream_token_invalid` and `stream_token_expired`. */
export async function verifyStreamToken(
  gate: Pick<Gate, 'findWorkspace'>,
  token: string,
  nowMs: number,
): Promise<{ catalog: Catalog; grant: StreamGrant }> {
  const named = readUnverified(token).workspace
  const catalog = typeof named === 'string' ? await gate.findWorkspace(named) : null
  if (catalog === null) throw invalid('it is of no workspace of this engine')
  for (const secret of catalog.keys) {
    const claims = await verifyUnder(secret, token, nowMs)
    if (claims !== null) return { catalog, grant: grantOf(claims) }
  }
  throw invalid('it was not made with a key that the workspace has now')
}

/** Which workspace it says it is of: that tells the keys. Nothing of it is believed yet. */
function readUnverified(token: string): JWTPayload {
  if (token.length > TOKEN_CHARS_MAX) throw invalid('it is too long')
  try {
    return decodeJwt(token)
  } catch {
    throw invalid('it is no JWT')
  }
}

/** The claims; null when it was made with another key. */
async function verifyUnder(secret: string, token: string, nowMs: number): Promise<JWTPayload | null> {
  const currentDate = new Date(nowMs)
  const options = { algorithms: [ALGORITHM], audience: AUDIENCE, requiredClaims: ['exp', 'run'], currentDate }
  try {
    return (await jwtVerify(token, keyOf(secret), options)).payload
  } catch (error) {
    if (error instanceof errors.JWSSignatureVerificationFailed) return null
    if (error instanceof errors.JWTExpired) {
      const at = new Date((error.payload.exp ?? 0) * 1000).toISOString()
      throw new EngineError('stream_token_expired', 401, `The stream token expired at ${at}. ${NEW_ONE}`)
    }
    throw invalid('it is not a token for a stream')
  }
}

/** What is signed was written by `createStreamToken`, of this version or another. */
function grantOf({ run, channels, exp }: JWTPayload): StreamGrant {
  const areTexts = Array.isArray(channels) && channels.every(channel => typeof channel === 'string')
  if (typeof run !== 'string' || exp === undefined || (channels !== undefined && !areTexts))
    throw invalid('it is not a token for a stream')
  return { run, channels: areTexts ? channels.slice(0, LIMITS.channelsPerStream) : null, expiresAtMs: exp * 1000 }
}

function keyOf(secret: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', parseSecret(secret), '', KEY_INFO, KEY_BYTES))
}

function invalid(why: string): EngineError {
  return new EngineError('stream_token_invalid', 401, `The stream token is not valid: ${why}. ${NEW_ONE}`)
}
