/** Holds what doubles receive to the protocol: a message that is not signed as it should be is a defect of the SDK. */
import { verify } from '@stepwell/protocol'

/**
 * The id of a message.
 * @param options `id`: the one that it must have
 */
export function checkSigned(
  headers: Record<string, string>,
  payload: string | Buffer,
  options: { key: string; id?: string },
): string {
  const verified = verify({
    headers: {
      id: headers['webhook-id'],
      timestamp: headers['webhook-timestamp'],
      signature: headers['webhook-signature'],
    },
    payload,
    secrets: [options.key],
    nowMs: Date.now(),
  })
  if (!verified.ok) throw new Error(verified.message)
  if (options.id !== undefined && verified.id !== options.id) {
    throw new Error(`signed as ${verified.id}, not ${options.id}`)
  }
  return verified.id
}
