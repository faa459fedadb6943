import type { Duration } from '@stepwell/sdk'

/** What can be set from outside, read once at the start. */
export interface Settings {
  port: number
  /** The secret of the GitHub webhook. */
  hookSecret: string
  /** Where the fake outside world writes what it did. */
  ledgerPath: string
  /** How long a pull request may wait for a review before somebody is reminded. */
  reviewTimeout: Duration
  /** How long a new user is left in peace. */
  cooldown: Duration
  /** How long a new user waits for approval. */
  approvalTimeout: Duration
  /** How long a parcel waits for its collection. */
  collectTimeout: Duration
  /** How long the payment provider takes to answer. */
  answerAfterMs: number
}

type Env = Record<string, string | undefined>

/** @throws Error that names the variable */
export function readSettings(env: Env): Settings {
  return {
    port: readNumber(env, 'PORT', 3000),
    hookSecret: env.GATEKEEPER_HOOK_SECRET ?? 'only-for-development',
    ledgerPath: env.GATEKEEPER_LEDGER ?? '.data/ledger.jsonl',
    reviewTimeout: readDuration(env, 'GATEKEEPER_REVIEW_TIMEOUT', '3d'),
    cooldown: readDuration(env, 'GATEKEEPER_COOLDOWN', '2d'),
    approvalTimeout: readDuration(env, 'GATEKEEPER_APPROVAL_TIMEOUT', '7d'),
    collectTimeout: readDuration(env, 'GATEKEEPER_COLLECT_TIMEOUT', '3d'),
    answerAfterMs: readNumber(env, 'GATEKEEPER_ANSWER_AFTER_MS', 50),
  }
}

function readDuration(env: Env, name: string, otherwise: Duration): Duration {
  const text = env[name]
  if (text === undefined) return otherwise
  // One number and one unit is a duration; that is all that a setting needs.
  if (/^[0-9]+(?:ms|s|m|h|d|w)$/.test(text)) return text as Duration
  throw new Error(`${name} is "${text}". Set it to a duration, such as 3d or 90s.`)
}

function readNumber(env: Env, name: string, otherwise: number): number {
  const text = env[name]
  if (text === undefined) return otherwise
  const number = Number(text)
  if (Number.isInteger(number) && number >= 0) return number
  throw new Error(`${name} is "${text}". Set it to a whole number.`)
}
