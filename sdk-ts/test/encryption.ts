/** The middleware that tests put between app and engine: AES-256-GCM, bound to what the payload is. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { Middleware, Payload } from '../src/index.ts'

export const ENCRYPTION_KEY = Buffer.alloc(32, 9)

const IV_BYTES = 12
const TAG_BYTES = 16

/** What is not sealed is given back as it is. */
export function encryption(key: Buffer = ENCRYPTION_KEY): Required<Pick<Middleware, 'encode' | 'decode'>> & Middleware {
  return {
    name: 'encryption',
    encode(value, payload) {
      const iv = randomBytes(IV_BYTES)
      const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(contextOf(payload))
      const sealed = Buffer.concat([cipher.update(JSON.stringify(value)), cipher.final()])
      return { sealed: Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64') }
    },
    decode(value, payload) {
      if (typeof value !== 'object' || value === null || !('sealed' in value)) return value
      const bytes = Buffer.from(String(value.sealed), 'base64')
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, IV_BYTES)).setAAD(contextOf(payload))
      decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES))
      const plain = Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()])
      return JSON.parse(plain.toString())
    },
  }
}

/** A payload that was moved to another place cannot be read there. */
function contextOf({ kind, name }: Payload): Buffer {
  return Buffer.from(JSON.stringify([kind, name]))
}
