import type { RetryPolicy } from '@stepwell/protocol'

/**
 * How long to wait before attempt `failedAttempts + 1` of a step; null when there is none. Exponential with jitter:
 * the factor 0.5 to 1 spreads runs that failed together. `dice` is from 0 to 1.
 */
export function retryDelayMs(policy: RetryPolicy | undefined, failedAttempts: number, dice: number): number | null {
  if (policy === undefined || failedAttempts >= policy.maxAttempts) return null
  if (policy.afterMs !== undefined) return policy.afterMs
  const { minDelayMs: minMs, maxDelayMs: maxMs, factor = DEFAULT_FACTOR } = policy
  return backOffMs({ minMs, maxMs, factor, failures: failedAttempts, dice })
}

const DEFAULT_FACTOR = 2

const RESEND_MIN_MS = 250
const RESEND_MAX_MS = 30_000

/** How long to wait before a turn is sent again to an app that did not answer. */
export function resendDelayMs(failures: number, dice: number): number {
  return backOffMs({ minMs: RESEND_MIN_MS, maxMs: RESEND_MAX_MS, factor: DEFAULT_FACTOR, failures, dice })
}

function backOffMs(curve: { minMs: number; maxMs: number; factor: number; failures: number; dice: number }): number {
  const full = Math.min(curve.maxMs, curve.minMs * curve.factor ** (curve.failures - 1))
  return full * (0.5 + curve.dice / 2)
}
