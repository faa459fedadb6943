import type { Json } from '@stepwell/protocol'

/** JSON text of a value that came as JSON; null for none. */
export function jsonText(value: Json | undefined): string | null {
  return value === undefined ? null : JSON.stringify(value)
}
