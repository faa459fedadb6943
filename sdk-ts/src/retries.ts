/** How often a failed step is tried again, and how long to wait in between. */
import { type Duration, LIMITS, parseDuration, type RetryPolicy } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'

/**
 * A number of retries (3 means 4 attempts), or with the delays in between: exponential with jitter, from `minDelay`
 * (default 1 second) to `maxDelay` (default 1 hour).
 */
export type Retries = number | { limit?: number; minDelay?: Duration; maxDelay?: Duration }

const DEFAULT_RETRIES = 3
const DEFAULT_MIN_DELAY_MS = 1_000
const DEFAULT_MAX_DELAY_MS = 3_600_000

/**
 * The policy for the wire.
 * @param where names the function or step in the error
 * @throws StepwellError `retries_invalid`
 */
export function toRetryPolicy(retries: Retries | undefined, where: string): RetryPolicy {
  const { limit = DEFAULT_RETRIES, minDelay, maxDelay } = typeof retries === 'object' ? retries : { limit: retries }
  if (!Number.isInteger(limit) || limit < 0 || limit >= LIMITS.maxAttempts) {
    throw invalid(
      where,
      `the number of retries is ${String(limit)}; use a whole number from 0 to ${LIMITS.maxAttempts - 1}`,
    )
  }
  const minDelayMs = readDelay(minDelay, DEFAULT_MIN_DELAY_MS, where)
  const maxDelayMs = readDelay(maxDelay, Math.max(DEFAULT_MAX_DELAY_MS, minDelayMs), where)
  if (minDelayMs > maxDelayMs) throw invalid(where, 'minDelay is longer than maxDelay; swap them')
  return { maxAttempts: limit + 1, minDelayMs, maxDelayMs }
}

function readDelay(delay: Duration | undefined, otherwiseMs: number, where: string): number {
  if (delay === undefined) return otherwiseMs
  try {
    return parseDuration(delay)
  } catch (error) {
    throw invalid(where, error instanceof Error ? error.message : String(error))
  }
}

function invalid(where: string, why: string): StepwellError {
  return new StepwellError('retries_invalid', `The retries of ${where} are not valid: ${why.replace(/\.$/, '')}.`)
}
