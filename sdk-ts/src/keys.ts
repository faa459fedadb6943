/**
 * Which keys this app signs and verifies with: those it was given, else those of the environment, else (outside of
 * production) the key that a local `stepwell dev` has left in its file.
 */
import { isSecret } from '@stepwell/protocol'
import { readDevFile } from './dev-file.ts'

/** Several keys while one replaces another: all of them are accepted, and all sign. */
export type SigningKey = string | readonly string[]

const HOW = 'Set STEPWELL_SIGNING_KEY, pass { signingKey }, or start `stepwell dev` on this machine.'

/** The keys of one endpoint or client. */
export class Keys {
  #secrets: readonly string[] | null
  /** From the dev file: it changes when `stepwell dev` starts afresh. */
  #isFromDevFile = false

  /** @throws TypeError when a key is malformed; the message does not show it */
  constructor(signingKey: SigningKey | undefined) {
    this.#secrets = signingKey === undefined ? null : readKeys(signingKey, 'signingKey')
  }

  /**
   * The keys, or a sentence that says how to get one. Looks again on every call until there is one, so that app and
   * engine may start in any order.
   */
  async find(): Promise<readonly string[] | { missing: string }> {
    if (this.#secrets !== null) return this.#secrets
    const text = process.env.STEPWELL_SIGNING_KEY
    if (text !== undefined && text.trim() !== '') {
      try {
        // Several keys stand side by side, separated by commas or spaces, while they rotate.
        this.#secrets = readKeys(text.split(/[\s,]+/).filter(Boolean), 'STEPWELL_SIGNING_KEY')
      } catch (error) {
        return { missing: error instanceof Error ? error.message : String(error) }
      }
      return this.#secrets
    }
    const devFile = await readDevFile()
    if (devFile?.signingKey === undefined) return { missing: `This app has no signing key. ${HOW}` }
    this.#secrets = readKeys(devFile.signingKey, 'the signingKey of the dev file')
    this.#isFromDevFile = true
    return this.#secrets
  }

  /** The keys do not fit. Reads the dev file again when they came from there; tells whether they are others now. */
  async reload(): Promise<boolean> {
    if (!this.#isFromDevFile) return false
    const before = this.#secrets?.join()
    const devFile = await readDevFile()
    if (devFile?.signingKey === undefined || devFile.signingKey === before) return false
    this.#secrets = readKeys(devFile.signingKey, 'the signingKey of the dev file')
    return true
  }
}

function readKeys(signingKey: SigningKey, where: string): readonly string[] {
  const keys = typeof signingKey === 'string' ? [signingKey] : [...signingKey]
  if (keys.length === 0) throw new TypeError(`There is no key in ${where}. ${HOW}`)
  if (!keys.every(key => typeof key === 'string' && isSecret(key))) {
    throw new TypeError(`A key in ${where} is malformed: a key is "whsec_" and the base64 of 24 to 64 bytes.`)
  }
  return keys.map(key => key.trim())
}
