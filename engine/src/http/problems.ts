/*
 * Every error answer: RFC 9457, `application/problem+json`. What is thrown as an EngineError is meant for the sender;
 * anything else is ours, is logged once under the request's id, and says nothing outside.
 */
import type { Problem } from '@stepwell/protocol'
import { EngineError } from '../core/errors.ts'
import type { Log } from '../log.ts'
import { isDatabaseAway } from '../store/db.ts'
import { answer } from './answer.ts'
import type { HttpContext } from './context.ts'

const RETRY_AFTER_SECONDS = 1
/** How many causes are looked through for a database that is away. */
const CAUSES_MAX = 5

/** The answer to an error that a route or a check threw. */
export function answerProblem(
  c: HttpContext,
  log: Log,
  thrown: unknown,
  headers: Record<string, string> = {},
): Response {
  const requestId = c.get('requestId')
  const problem = problemOf(thrown, requestId)
  if (problem.status >= 500) {
    const fields = { requestId, method: c.req.method, path: c.req.path, code: problem.code, err: thrown }
    if (isExpected(thrown)) log.warn(fields, 'request refused')
    else log.error(fields, 'request failed')
  }
  return answer(c, problem.status, problem, {
    'content-type': 'application/problem+json',
    ...(problem.status === 503 ? { 'retry-after': String(RETRY_AFTER_SECONDS) } : {}),
    ...headers,
  })
}

/** What the sender is told about an error. */
export function problemOf(thrown: unknown, requestId: string): Problem {
  const error = refusalOf(thrown)
  return {
    ...error.extra,
    type: `urn:stepwell:error:${error.code}`,
    title: titleOf(error.code),
    status: error.status,
    code: error.code,
    detail: error.message,
    requestId,
  }
}

function refusalOf(thrown: unknown): EngineError {
  if (thrown instanceof EngineError) return thrown
  if (isAway(thrown)) {
    return new EngineError(
      'unavailable',
      503,
      'The engine cannot reach its database now. Whether the request took effect is not known; send it again.',
    )
  }
  return new EngineError(
    'internal',
    500,
    'Something in the engine failed. Its log has the reason under this requestId; report it if sending again does not help.',
  )
}

/** Whether it passes by itself: a database that is away, or a refusal that nothing else has caused. */
function isExpected(thrown: unknown): boolean {
  return isAway(thrown) || (thrown instanceof EngineError && thrown.cause === undefined)
}

function isAway(thrown: unknown): boolean {
  let error = thrown
  for (let depth = 0; depth < CAUSES_MAX && error instanceof Error; depth += 1) {
    if (isDatabaseAway(error)) return true
    error = error.cause
  }
  return false
}

/** `body_invalid` -> `Body invalid`. */
function titleOf(code: string): string {
  return `${code.charAt(0).toUpperCase()}${code.slice(1)}`.replaceAll('_', ' ')
}
