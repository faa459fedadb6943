/** `whsec_` and the base64 of this many bytes. */
const MIN_KEY_BYTES = 24
const MAX_KEY_BYTES = 64
const PREFIX = 'whsec_'

/** Standard base64 with its padding, in whole groups of four. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/**
 * The bytes of a signing key. Whitespace around it is removed: keys come from env files and pasted lines.
 * @param secret `whsec_` and the base64 of 24 to 64 bytes
 * @throws TypeError when it is malformed; the message says how and never shows the key
 */
export function parseSecret(secret: string): Buffer {
  const parsed = readSecret(secret)
  if (typeof parsed === 'string') {
    throw new TypeError(
      `The signing key is malformed: ${parsed}. A key is "${PREFIX}" and the base64 of ${MIN_KEY_BYTES} to ${MAX_KEY_BYTES} random bytes.`,
    )
  }
  return parsed
}

/** Whether a text is a signing key: `whsec_` and the base64 of 24 to 64 bytes, whitespace around it allowed. */
export function isSecret(text: string): boolean {
  return typeof readSecret(text) !== 'string'
}

/** The key's bytes, or what is wrong with it. */
function readSecret(secret: unknown): Buffer | string {
  if (typeof secret !== 'string') return 'it is not a string'
  const text = secret.trim()
  if (text === '') return 'it is empty'
  if (/^["'`]|["'`]$/.test(text)) return 'it has quotes around it'
  if (!text.startsWith(PREFIX)) return `it does not start with "${PREFIX}"`
  const encoded = text.slice(PREFIX.length)
  if (/\s/.test(encoded)) return 'it has whitespace inside'
  if (/[-_]/.test(encoded)) return 'it is base64url; use standard base64 ("+" and "/")'
  if (!BASE64.test(encoded)) return `what follows "${PREFIX}" is not base64 with its padding`
  const key = Buffer.from(encoded, 'base64')
  if (key.length < MIN_KEY_BYTES || key.length > MAX_KEY_BYTES) return `it has ${key.length} bytes`
  return key
}
