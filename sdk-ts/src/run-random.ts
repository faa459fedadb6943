/**
 * Numbers that look like chance and are the same on every replay: sfc32 (a small fast counting generator of PractRand, of
 * 128 bits of state), seeded with the SHA-256 of the run and its generation.
 */
import { createHash } from 'node:crypto'

const UINT32 = 2 ** 32
/** Seeds that differ in little give numbers that differ in little until the state is mixed. */
const MIXING_ROUNDS = 12

export class RunRandom {
  readonly #seed: string
  #state: Uint32Array | null = null

  /** @param run seeds it; nothing is computed before the first number is asked for */
  constructor(run: { id: string; generation: number }) {
    this.#seed = `${run.id}:${run.generation}`
  }

  /** From 0 to 1, without 1; 53 bits. */
  next(): number {
    return ((this.#next() >>> 5) * 67_108_864 + (this.#next() >>> 6)) / 2 ** 53
  }

  /** A UUID of version 4 (RFC 9562). */
  uuid(): string {
    const bytes = Buffer.alloc(16)
    for (let at = 0; at < 16; at += 4) bytes.writeUInt32BE(this.#next(), at)
    bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40
    bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
    const hex = bytes.toString('hex')
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  }

  #next(): number {
    this.#state ??= seeded(this.#seed)
    return advance(this.#state)
  }
}

function seeded(seed: string): Uint32Array {
  const digest = createHash('sha256').update(seed).digest()
  const state = new Uint32Array([digest.readUInt32BE(0), digest.readUInt32BE(4), digest.readUInt32BE(8), 1])
  for (let round = 0; round < MIXING_ROUNDS; round += 1) advance(state)
  return state
}

/** One step of sfc32. */
function advance(state: Uint32Array): number {
  const [a = 0, b = 0, c = 0, counter = 0] = state
  const out = (a + b + counter) % UINT32
  state[3] = counter + 1
  state[0] = b ^ (b >>> 9)
  state[1] = c + (c << 3)
  state[2] = ((c << 21) | (c >>> 11)) + out
  return out
}
