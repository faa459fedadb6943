import type { ErrorCode, WireError } from '@stepwell/protocol'

/** A refusal with a code that is API. Anything else that is thrown is a bug and shows as `internal`. */
export class EngineError extends Error {
  readonly code: ErrorCode
  readonly status: number
  /** More members for the problem document. */
  readonly extra: Record<string, unknown>

  constructor(
    code: ErrorCode,
    status: number,
    message: string,
    extra: Record<string, unknown> = {},
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.name = 'EngineError'
    this.code = code
    this.status = status
    this.extra = extra
  }
}

/** The error of a run that the engine itself ends. */
export function runFailure(code: ErrorCode, message: string): WireError {
  return { name: 'StepwellError', code, message }
}
