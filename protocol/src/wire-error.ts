import type { WireError } from './error.ts'
import { LIMITS } from './limits.ts'

/**
 * An error as it came over the wire, cut to `LIMITS`: long texts are shortened, causes that are nested too deep are
 * left out. Null when it is none: `name` and `message` must be texts. What is optional and malformed is left out.
 */
export function readWireError(value: unknown, depth = 0): WireError | null {
  if (typeof value !== 'object' || value === null) return null
  const { name, message, stack, code, cause } = value as Record<keyof WireError, unknown> // any of them may be absent
  if (typeof name !== 'string' || typeof message !== 'string') return null
  const error: WireError = {
    name: name.slice(0, LIMITS.errorNameChars),
    message: message.slice(0, LIMITS.errorMessageChars),
  }
  if (typeof stack === 'string') error.stack = stack.slice(0, LIMITS.errorStackChars)
  if (typeof code === 'string') error.code = code.slice(0, LIMITS.errorCodeChars)
  // The bound also keeps this recursion short: a body of 4 MiB can nest a hundred thousand causes.
  const inner = depth < LIMITS.errorCauseDepth ? readWireError(cause, depth + 1) : null
  if (inner !== null) error.cause = inner
  return error
}
