/** Thrown values to the wire and back: name, message, stack, code and cause survive. */
import { LIMITS, type WireError } from '@stepwell/protocol'

/** Whatever was thrown, within the limits of the wire. Never throws itself, however odd the value is. */
export function toWireError(thrown: unknown): WireError {
  return describeThrown(thrown, LIMITS.errorCauseDepth)
}

/** An Error that looks like the one that was thrown on the other side. */
export function fromWireError(wire: WireError): Error {
  const error = new Error(wire.message, wire.cause === undefined ? undefined : { cause: fromWireError(wire.cause) })
  error.name = wire.name
  if (wire.stack !== undefined) error.stack = wire.stack
  if (wire.code !== undefined) Object.assign(error, { code: wire.code })
  return error
}

function describeThrown(thrown: unknown, depthLeft: number): WireError {
  try {
    if (!isErrorLike(thrown)) return { name: 'NonError', message: cut(say(thrown), LIMITS.errorMessageChars) }
    const { name, message, stack, code } = thrown
    const cause = depthLeft > 0 ? causeOf(thrown) : undefined
    return {
      name: typeof name === 'string' && name !== '' ? cut(name, LIMITS.errorNameChars) : 'Error',
      message: cut(String(message), LIMITS.errorMessageChars),
      ...(typeof stack === 'string' && stack !== '' && { stack: cut(stack, LIMITS.errorStackChars) }),
      ...((typeof code === 'string' || typeof code === 'number') && {
        code: cut(String(code), LIMITS.errorCodeChars),
      }),
      ...(cause !== undefined && { cause: describeThrown(cause, depthLeft - 1) }),
    }
  } catch {
    // A getter, a Proxy or a toString that throws. There is nothing left to read from it.
    return { name: 'NonError', message: 'Something was thrown that cannot be read.' }
  }
}

interface ErrorLike {
  name?: unknown
  message: unknown
  stack?: unknown
  code?: unknown
  cause?: unknown
  errors?: unknown
}

/** Errors of other realms and of libraries that do not extend Error count too: they have a message. */
function isErrorLike(thrown: unknown): thrown is ErrorLike {
  return typeof thrown === 'object' && thrown !== null && 'message' in thrown && typeof thrown.message === 'string'
}

/** An AggregateError (`Promise.any`) tells nothing without its first reason. */
function causeOf(error: ErrorLike): unknown {
  if (error.cause !== undefined) return error.cause
  return Array.isArray(error.errors) ? error.errors[0] : undefined
}

function say(thrown: unknown): string {
  if (typeof thrown === 'string') return thrown
  if (typeof thrown === 'object' && thrown !== null) return JSON.stringify(thrown) ?? String(thrown)
  return `${String(thrown)} was thrown`
}

function cut(text: string, maxChars: number): string {
  return text.length <= maxChars ? text : `${text.slice(0, maxChars - 1)}…`
}

/** Whoever reads why a run failed also reads what could not be taken back. */
export function withUndoFailures(error: WireError, failures: readonly { key: string; error: unknown }[]): WireError {
  if (failures.length === 0) return error
  const told = failures.map(({ key, error: why }) => `"${key}" (${toWireError(why).message})`).join(', ')
  return { ...error, message: `${error.message} [could not be undone: ${told}]` }
}
