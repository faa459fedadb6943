/** How often a failed step is tried again, how long to wait in between, and what ends it before. */
import { type Duration, LIMITS, parseDuration, type RetryPolicy } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'

/** A number of retries (3 means 4 attempts), or more about them. */
export type Retries = number | RetryOptions

/**
 * How a failed step is tried again. Delays are exponential with jitter: after attempt n, `minDelay * factor^(n-1)`, at most
 * `maxDelay`, times 0.5 to 1.
 */
export interface RetryOptions {
  /** How many retries: 3 by default. */
  limit?: number
  /** After the first attempt: 1 second by default. */
  minDelay?: Duration
  /** 1 hour by default. */
  maxDelay?: Duration
  /** By how much each delay is longer than the one before: 1 (the same each time) to 10, 2 by default. */
  factor?: number
  /**
   * No further attempt when it would begin later than this after the first one began, by the engine's clock. `limit` counts as
   * well: whichever comes first.
   */
  total?: Duration
  /**
   * Called with what the body threw and the number of the attempt, when there would be another one: false makes this one the
   * last. What it throws itself fails the step for good.
   */
  if?: (error: unknown, attempt: number) => boolean
}

/** What the SDK knows about retries: the policy of the wire, and what only the app can decide. */
export interface RetryRules {
  readonly policy: RetryPolicy
  readonly totalMs: number | undefined
  readonly isRetried: ((error: unknown, attempt: number) => boolean) | undefined
}

/** An attempt that has failed. */
export interface FailedAttempt {
  thrown: unknown
  attempt: number
  /** What a RetryAfterError asked for. */
  afterMs: number | undefined
  /** How long ago the first attempt began, in milliseconds. */
  elapsedMs: () => number
}

const DEFAULT_RETRIES = 3
const DEFAULT_MIN_DELAY_MS = 1_000
const DEFAULT_MAX_DELAY_MS = 3_600_000
/** What the wire means when it says nothing. */
const DEFAULT_FACTOR = 2

/**
 * The rules, checked.
 * @param where names the function or step in the error
 * @throws StepwellError `retries_invalid`
 */
export function toRetryRules(retries: Retries | undefined, where: string): RetryRules {
  const options = toOptions(retries)
  const { limit = DEFAULT_RETRIES, minDelay, maxDelay, factor = DEFAULT_FACTOR, total, if: isRetried } = options
  if (!Number.isInteger(limit) || limit < 0 || limit >= LIMITS.maxAttempts) {
    throw invalid(
      where,
      `the number of retries is ${String(limit)}; use a whole number from 0 to ${LIMITS.maxAttempts - 1}`,
    )
  }
  if (typeof factor !== 'number' || !(factor >= 1 && factor <= LIMITS.retryFactor)) {
    throw invalid(
      where,
      `factor is ${String(factor)}; use a number from 1 (the same delay each time) to ${LIMITS.retryFactor}`,
    )
  }
  if (isRetried !== undefined && typeof isRetried !== 'function') {
    throw invalid(where, 'if is no function; pass one: { if: (error, attempt) => !(error instanceof CardDeclined) }')
  }
  const minDelayMs = readDelay('minDelay', minDelay, where) ?? DEFAULT_MIN_DELAY_MS
  const maxDelayMs = readDelay('maxDelay', maxDelay, where) ?? Math.max(DEFAULT_MAX_DELAY_MS, minDelayMs)
  if (minDelayMs > maxDelayMs) throw invalid(where, 'minDelay is longer than maxDelay; swap them')
  const policy = { maxAttempts: limit + 1, minDelayMs, maxDelayMs, ...(factor !== DEFAULT_FACTOR && { factor }) }
  return { policy, totalMs: readDelay('total', total, where), isRetried }
}

/** `limit` is whatever came, for the check to name. */
function toOptions(retries: Retries | undefined): RetryOptions {
  if (typeof retries === 'object' && retries !== null) return retries
  return retries === undefined ? {} : { limit: retries }
}

/**
 * Whether the app makes an attempt that has failed the last one, although the policy of the wire has another one.
 * @throws what `if` throws; StepwellError `retries_invalid` when it gives neither true nor false
 */
export function isLastAttempt({ policy, totalMs, isRetried }: RetryRules, failed: FailedAttempt): boolean {
  const { thrown, attempt, afterMs } = failed
  if (attempt >= policy.maxAttempts) return false
  // The engine may take half of it off: with all of it, no attempt begins after the total.
  if (totalMs !== undefined && failed.elapsedMs() + (afterMs ?? longestDelayMs(policy, attempt)) > totalMs) return true
  if (isRetried === undefined) return false
  const answer: unknown = isRetried(thrown, attempt)
  if (typeof answer === 'boolean') return !answer
  const what = answer instanceof Promise ? 'a promise' : typeof answer
  throw new StepwellError('retries_invalid', `The "if" of retries gave ${what}; it has to give true or false at once.`)
}

function longestDelayMs({ minDelayMs, maxDelayMs, factor = DEFAULT_FACTOR }: RetryPolicy, attempt: number): number {
  return Math.min(maxDelayMs, minDelayMs * factor ** (attempt - 1))
}

function readDelay(name: string, delay: Duration | undefined, where: string): number | undefined {
  if (delay === undefined) return undefined
  try {
    return parseDuration(delay)
  } catch (error) {
    throw invalid(where, `${name}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function invalid(where: string, why: string): StepwellError {
  return new StepwellError('retries_invalid', `The retries of ${where} are not valid: ${why.replace(/\.$/, '')}.`)
}
