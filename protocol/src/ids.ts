/**
 * Ids: UUIDv7 in the database, a prefix and 26 characters outside (`run_01jb…`), one to one.
 *
 * UUIDv7 (RFC 9562) is 48 bits of milliseconds, then here a 12 bit counter, then 62 random bits. The counter starts
 * anywhere in its lower half each millisecond and counts up; when it is used up, the id borrows the next millisecond. So
 * ids of one factory are strictly increasing as text and as bytes, also when the clock steps back.
 */

/** `size` random bytes; `randomBytes` of node:crypto is one. */
export type RandomSource = (size: number) => Uint8Array

/** Crockford's base32 in lower case: no i, l, o and u. Sorts like the bits it stands for. */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
const ID_CHARS = 26
const COUNTER_MAX = 0xfff
const COUNTER_START_MAX = 0x7ff
/** Asking for randomness costs more per call than per byte. */
const POOL_BYTES = 4_096
const BYTES_PER_ID = 10

/**
 * A source of UUIDv7s as text with dashes, strictly increasing in the order of the calls.
 * @param sources `now` is Unix time in milliseconds, `random` gives random bytes
 */
export function createUuid7(sources: { now: () => number; random: RandomSource }): () => string {
  let lastMs = -1
  let counter = 0
  let pool: Uint8Array = new Uint8Array(0)
  let used = 0

  return function newUuid7() {
    if (used + BYTES_PER_ID > pool.length) {
      pool = sources.random(POOL_BYTES)
      used = 0
    }
    const bytes = new DataView(pool.buffer, pool.byteOffset + used, BYTES_PER_ID)
    used += BYTES_PER_ID

    const nowMs = Math.floor(sources.now())
    if (nowMs > lastMs) {
      lastMs = nowMs
      counter = bytes.getUint16(8) & COUNTER_START_MAX
    } else if (counter < COUNTER_MAX) {
      counter += 1
    } else {
      lastMs += 1
      counter = bytes.getUint16(8) & COUNTER_START_MAX
    }

    const time = hex(lastMs, 12)
    const high = bytes.getUint32(0)
    // The version is 7 and stands before the counter; the variant is binary 10 and stands before the random bits.
    const variant = 0x8000 | ((high >>> 16) & 0x3fff)
    const tail = hex(high & 0xffff, 4) + hex(bytes.getUint32(4), 8)
    return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(counter, 3)}-${hex(variant, 4)}-${tail}`
  }
}

/**
 * The id that people and apps see: the prefix, `_` and 26 characters.
 * @param prefix without its underscore: `run`, `evt`
 * @param uuid with dashes, as the database and `createUuid7` give it
 */
export function encodeId(prefix: string, uuid: string): string {
  const digits = uuid.replaceAll('-', '')
  // 26 characters hold 130 bits. The two extra ones lead: 2 + 8 bits are two characters, and each 20 bits are four more.
  const head = Number.parseInt(digits.slice(0, 2), 16)
  let text = `${prefix}_${ALPHABET[head >>> 5]}${ALPHABET[head & 31]}`
  for (let at = 2; at < 32; at += 5) {
    const bits = Number.parseInt(digits.slice(at, at + 5), 16)
    text += `${ALPHABET[bits >>> 15]}${ALPHABET[(bits >>> 10) & 31]}${ALPHABET[(bits >>> 5) & 31]}${ALPHABET[bits & 31]}`
  }
  return text
}

/**
 * The UUID (lower case, with dashes) of an id, or null when the text is no id with this prefix.
 * @param prefix without its underscore
 * @param text whatever somebody sent; upper case is accepted
 */
export function decodeId(prefix: string, text: string): string | null {
  if (text.length !== prefix.length + 1 + ID_CHARS) return null
  const lower = text.toLowerCase()
  if (!lower.startsWith(`${prefix}_`)) return null
  const start = prefix.length + 1
  const head = bitsOf(lower, start, 2)
  if (head < 0 || head > 0xff) return null
  let digits = hex(head, 2)
  for (let at = start + 2; at < lower.length; at += 4) {
    const bits = bitsOf(lower, at, 4)
    if (bits < 0) return null
    digits += hex(bits, 5)
  }
  return `${digits.slice(0, 8)}-${digits.slice(8, 12)}-${digits.slice(12, 16)}-${digits.slice(16, 20)}-${digits.slice(20)}`
}

/** The number that `count` characters from `start` stand for, or -1 when one of them is not of the alphabet. */
function bitsOf(text: string, start: number, count: number): number {
  let bits = 0
  for (let at = start; at < start + count; at += 1) {
    const value = ALPHABET.indexOf(text.charAt(at))
    if (value === -1) return -1
    bits = (bits << 5) | value
  }
  return bits
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0')
}
