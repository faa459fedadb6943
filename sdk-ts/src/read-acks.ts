/** Reads what the engine answered to a batch of reports. */
import type { Ack } from '@stepwell/protocol'
import { findBadEntry, isRecord } from './read-entries.ts'

/**
 * The acknowledgements, one per report, or null when the body is something else.
 * @param count how many reports were sent
 */
export function readAcks(body: Buffer, count: number): Ack[] | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString())
  } catch {
    return null
  }
  if (!isRecord(parsed) || parsed.kind !== 'acks' || !Array.isArray(parsed.acks)) return null
  const acks: unknown[] = parsed.acks
  return acks.length === count && acks.every(isAck) ? acks : null
}

/** The status that a problem document names; null when the body is none. */
export function problemStatus(body: Buffer): number | null {
  // Acknowledgements are by far the most frequent, and begin like this.
  if (body.subarray(0, ACKS_BEGIN.length).equals(ACKS_BEGIN)) return null
  try {
    const parsed: unknown = JSON.parse(body.toString())
    return isRecord(parsed) && typeof parsed.code === 'string' && typeof parsed.status === 'number'
      ? parsed.status
      : null
  } catch {
    return null
  }
}

const ACKS_BEGIN = Buffer.from('{"kind":"acks"')

function isAck(ack: unknown): ack is Ack {
  if (!isRecord(ack)) return false
  if (ack.status === 200) return findBadEntry(ack.entries, 'entries') === null
  return (ack.status === 409 || ack.status === 421 || ack.status === 422) && typeof ack.message === 'string'
}
