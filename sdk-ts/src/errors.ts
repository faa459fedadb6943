/** Everything that this SDK throws, and the two errors that a step body throws to say how it wants to be retried. */
import { type Duration, type ErrorCode, formatDuration, LIMITS, parseDuration } from '@stepwell/protocol'

/** What an error answer of the engine tells besides its code and message. */
export interface StepwellErrorDetails {
  cause?: unknown
  /** HTTP status, when the engine answered. */
  status?: number
  /** The engine's id of the request: look for it in its log. */
  requestId?: string
  /** On 401: the fingerprints of the keys on both sides. */
  fingerprints?: { ours: string[]; theirs: string[] }
  /** Where in what was sent: JSON paths from its root (`events[3].name`). */
  errors?: { path: string; message: string }[]
}

/**
 * A refusal by Stepwell, with a code that never changes its name. The message says what happened, to which thing, and
 * what to do next.
 */
export class StepwellError extends Error {
  override readonly name: string = 'StepwellError'
  readonly code: ErrorCode
  readonly status: number | undefined
  readonly requestId: string | undefined
  readonly fingerprints: { ours: string[]; theirs: string[] } | undefined
  readonly errors: { path: string; message: string }[] | undefined

  constructor(code: ErrorCode, message: string, details: StepwellErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.status = details.status
    this.requestId = details.requestId
    this.fingerprints = details.fingerprints
    this.errors = details.errors
  }
}

/**
 * One execution of a step took longer than its `timeout` (`step_timed_out`), or was silent for longer than its `heartbeat`
 * (`step_heartbeat_lost`). It is the reason of the body's signal, and what `if` of retries gets.
 */
export class TimeoutError extends StepwellError {
  override readonly name = 'TimeoutError'
}

/**
 * What `step.run` throws in the handler when the step has failed for good. Name, message, stack, cause and code are
 * those of the error that the last attempt threw.
 */
export class StepError extends Error {
  /** The key of the step: its id, `id#2` for the second use. */
  readonly step: string
  /** How many attempts were made. */
  readonly attempts: number
  readonly code: string | undefined

  constructor(original: {
    name: string
    message: string
    stack?: string | undefined
    code?: string | undefined
    cause?: unknown
    step: string
    attempts: number
  }) {
    super(original.message, original.cause === undefined ? undefined : { cause: original.cause })
    this.name = original.name
    if (original.stack !== undefined) this.stack = original.stack
    this.code = original.code
    this.step = original.step
    this.attempts = original.attempts
  }
}

/** Throw it in a step body: this attempt was the last one, whatever `retries` says. */
export class NonRetriableError extends Error {
  override readonly name: string = 'NonRetriableError'
}

/** Throw it in a step body: try again, but not before the delay (`"30s"`, milliseconds) has passed or the time has come. */
export class RetryAfterError extends Error {
  override readonly name: string = 'RetryAfterError'
  /** How long to wait from the moment of the error, in milliseconds. */
  readonly delayMs: number

  /**
   * @param delay a duration, or the instant of the next attempt
   * @throws DurationError when the duration is malformed; RangeError when the Date is invalid
   */
  constructor(message: string, delay: Duration | Date, options?: { cause?: unknown }) {
    super(message, options)
    this.delayMs = delay instanceof Date ? msUntil(delay) : parseDuration(delay)
  }
}

function msUntil(instant: Date): number {
  const ms = instant.getTime() - Date.now()
  if (Number.isNaN(ms)) throw new RangeError('The delay of a RetryAfterError is an invalid Date.')
  return Math.min(LIMITS.durationMs, Math.max(0, ms))
}

/** The same id twice at a time: the second one would take the first one's result. */
export function duplicateStep(id: string): StepwellError {
  return new StepwellError(
    'duplicate_step',
    `Step ${JSON.stringify(id)} was asked for again before its previous use had settled. ` +
      'Give uses that run in parallel ids of their own, such as "charge-" and the order, or await the first one.',
  )
}

/** A step inside a step: its result would be recorded apart from the step that contains it. */
export function nestedStep(inner: string, outer: string): StepwellError {
  return new StepwellError(
    'nested_step',
    `Step ${JSON.stringify(inner)} was started inside the body of step ${JSON.stringify(outer)}. ` +
      'Move it out of the body, into the handler: a body is recorded as a whole.',
  )
}

/** The handler neither ended nor asked for a step within the turn's budget. */
export function handlerStalled(functionId: string, budgetMs: number): StepwellError {
  return new StepwellError(
    'handler_stalled',
    `The handler of "${functionId}" neither ended nor asked for a step within ${formatDuration(budgetMs)}. ` +
      'Put slow work into step.run: what a handler awaits outside of steps is repeated on every replay.',
  )
}

/** A child did not end in time. It goes on; its result goes nowhere. */
export function childTimedOut(key: string): StepwellError {
  return new StepwellError(
    'child_timed_out',
    `The child that step ${JSON.stringify(key)} invoked did not end within its timeout. It goes on without being waited for; ` +
      'give it longer, or cancel it.',
  )
}
