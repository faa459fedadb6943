/** Instants, as people pass them and as they travel. */
import { isInstant } from '@stepwell/protocol'

/** An instant as it travels (ISO 8601 in UTC, with milliseconds), or null when the value is none. */
export function toInstantText(value: Date | string | number): string | null {
  if (typeof value === 'string' && !isInstant(value)) return null
  const date = new Date(value)
  if (Number.isNaN(date.getTime())) return null
  const text = date.toISOString()
  // A year beyond 1 to 9999 is no instant of the protocol: the engine would refuse the report for ever.
  return isInstant(text) ? text : null
}
