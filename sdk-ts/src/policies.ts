/** What a function says about all of its runs, in the form of the wire. */
import { type Duration, LIMITS, parseDuration, type WireError } from '@stepwell/protocol'
import { StepwellError } from './errors.ts'
import type { AnyPolicies, DurableFunction } from './function.ts'
import { isName } from './names.ts'
import type { RetryRules } from './retries.ts'
import { fromWireError } from './wire-error.ts'

/** Ids of the functions that follow an end. */
const FOLLOWERS = { onFailure: 'on-failure', onCancel: 'on-cancel' } as const

/**
 * The policies of a function, as the engine is told.
 * @throws TypeError when one is malformed; StepwellError `duration_invalid`
 */
export function toPolicies(id: string, options: AnyPolicies): DurableFunction['policies'] {
  const { timeouts, cancelOn, tags, onFailure, onCancel } = options
  if (cancelOn !== undefined && !Array.isArray(cancelOn)) {
    throw new TypeError(`cancelOn of function "${id}" is no list of rules: cancelOn: [{ event: "order.cancelled" }].`)
  }
  const startMs = readTimeout(id, 'start', timeouts?.start)
  const finishMs = readTimeout(id, 'finish', timeouts?.finish)
  const hasTimeouts = startMs !== undefined || finishMs !== undefined
  return {
    ...(hasTimeouts && {
      timeouts: { ...(startMs !== undefined && { startMs }), ...(finishMs !== undefined && { finishMs }) },
    }),
    ...(cancelOn !== undefined && { cancelOn: cancelOn.map(rule => readRule(id, rule)) }),
    ...(tags !== undefined && { tags: readPaths(id, 'tags', tags, LIMITS.tagNameChars) }),
    ...(onFailure !== undefined && { onFailure: `${id}.${FOLLOWERS.onFailure}` }),
    ...(onCancel !== undefined && { onCancel: `${id}.${FOLLOWERS.onCancel}` }),
  }
}

/** The functions that follow a failure or a cancellation: they are served beside their own. */
export function toFollowers(id: string, retries: RetryRules, options: AnyPolicies): DurableFunction[] {
  const followers: DurableFunction[] = []
  for (const [name, suffix] of Object.entries(FOLLOWERS)) {
    const follow = options[name as keyof typeof FOLLOWERS]
    if (follow === undefined) continue
    if (typeof follow !== 'function') throw new TypeError(`${name} of function "${id}" is no function.`)
    const handler = (context: never) => follow(toEndedContext(context) as never)
    followers.push({
      id: `${id}.${suffix}`,
      version: 1,
      onMissing: 'latest',
      trigger: null,
      retries,
      policies: {},
      followers: [],
      handler,
    })
  }
  return followers
}

/** The engine starts a follower with an event of its own, which holds all of this. */
function toEndedContext(context: { event: { data: unknown } }) {
  const { run, error, event } = context.event.data as { run: string; error: WireError; event: unknown }
  return { ...context, event, error: fromWireError(error), endedRun: run }
}

function readTimeout(id: string, which: string, timeout: Duration | undefined): number | undefined {
  if (timeout === undefined) return undefined
  try {
    return parseDuration(timeout)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new StepwellError('duration_invalid', `timeouts.${which} of function "${id}": ${why}`, { cause: error })
  }
}

function readRule(id: string, rule: NonNullable<AnyPolicies['cancelOn']>[number]) {
  const { event, match } = rule ?? {}
  if (!isName(event, LIMITS.eventNameChars)) {
    throw new TypeError(
      `A rule of cancelOn of function "${id}" has no event: cancelOn: [{ event: "order.cancelled" }].`,
    )
  }
  if (match === undefined) return { event }
  const paths = typeof match === 'string' ? [match] : match
  const pairs = Array.isArray(paths) ? Object.fromEntries(paths.map(path => [path, path])) : (paths as object)
  return { event, match: readPaths(id, 'cancelOn', pairs as { [path: string]: string }, LIMITS.matchPathChars) }
}

function readPaths(id: string, where: string, paths: { [name: string]: string }, maxChars: number) {
  const isGood =
    typeof paths === 'object' &&
    paths !== null &&
    Object.entries(paths).length <= LIMITS.matchPaths &&
    Object.entries(paths).every(([name, path]) => isName(name, maxChars) && isName(path, LIMITS.matchPathChars))
  if (isGood) return paths
  const message = `${where} of function "${id}" needs up to ${LIMITS.matchPaths} names and paths into the event: { customer: "customer.id" }.`
  throw new TypeError(message)
}
