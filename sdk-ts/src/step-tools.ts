/** `step.*`: what a handler may ask for. Each call checks its arguments and makes one ask under the next key of its id. */
import { checkStepId, type Duration, LIMITS, type Match, parseDuration, type RetryPolicy } from '@stepwell/protocol'
import type { StepBody, Wanted } from './ask.ts'
import { StepwellError } from './errors.ts'
import type { EventMap, EventName, SchemaEvent, TypedEvent, TypedNewEvent, UntypedEvents } from './event-types.ts'
import { toInstantText } from './instants.ts'
import type { Jsonified } from './jsonified.ts'
import { isName } from './names.ts'
import { toEventsText } from './new-events.ts'
import { type Retries, toRetryPolicy } from './retries.ts'
import type { StandardSchema } from './standard-schema.ts'
import type { StepContext } from './step-body.ts'

/** Which event a wait is for. */
export interface WaitOptions<Name extends string = string> {
  /** The name of the event. */
  event: Name
  /** Paths into the event's data and the values they must have: `{ userId: user.id }`. */
  match?: Match
  /** Give up after this long: the wait then gives null. Without it, it waits for as long as the run lives. */
  timeout?: Duration
}

/** The steps of a run. Ids are names: once a run has used one, it stands for what was recorded under it. */
export interface Step<Events extends EventMap = UntypedEvents> {
  /**
   * Runs the body once and records what it returns: every replay gets that value back, as JSON gives it. The body may
   * run again when the process dies before the result is recorded, so make its effects idempotent (`idempotencyKey`).
   * @throws StepError when the last attempt has failed
   */
  run<T>(id: string, body: (context: StepContext) => T, options?: { retries?: Retries }): Promise<Jsonified<Awaited<T>>>
  /** Lets the run rest; no process and no connection is held meanwhile. */
  sleep(id: string, duration: Duration): Promise<void>
  /** As `sleep`, until an instant: a Date, ISO 8601, or Unix time in milliseconds. One in the past is over at once. */
  sleepUntil(id: string, instant: Date | string | number): Promise<void>
  /**
   * Waits for an event, also one that came since the run started. An event satisfies one wait of a run.
   * @returns the event, or null when the time-out came first
   * @throws StepwellError `event_data_invalid` when the event does not fit `schema`
   */
  waitForEvent<Name extends string, Schema extends StandardSchema>(
    id: string,
    options: WaitOptions<Name> & { schema: Schema },
  ): Promise<SchemaEvent<Schema, Name> | null>
  waitForEvent<Name extends EventName<Events>>(
    id: string,
    options: WaitOptions<Name>,
  ): Promise<TypedEvent<Events, Name> | null>
  /**
   * Sends events, recorded in the transaction that stores them: they are sent once.
   * @returns the ids of the events, in the order given
   */
  sendEvent(id: string, events: TypedNewEvent<Events> | readonly TypedNewEvent<Events>[]): Promise<string[]>
}

/**
 * The steps of one turn.
 * @param ask takes a checked ask; it may throw a StepwellError (`duplicate_step`, `nested_step`)
 * @param retries the policy of the function, for steps that have none
 */
export function createStep(ask: (id: string, wanted: Wanted) => Promise<unknown>, retries: RetryPolicy): Step {
  /** A refused call rejects instead of throwing, so that `Promise.all` and `.catch` see it like any other failure. */
  function askFor(id: string, read: () => Wanted): Promise<never> {
    let answer: Promise<unknown>
    try {
      const problem = checkStepId(id)
      if (problem !== null) throw new StepwellError('step_id_invalid', problem)
      answer = ask(id, read())
    } catch (error) {
      answer = Promise.reject(error)
    }
    // A step that the handler does not await, such as the loser of a race, may fail without taking the process down.
    answer.catch(() => {})
    // The journal holds what this handler put there: its type is what the caller says.
    return answer as Promise<never>
  }

  return {
    run: (id, body, options) => askFor(id, () => readRun(id, body, options?.retries, retries)),
    sleep: (id, duration) =>
      askFor(id, () => {
        const ms = readDuration(duration, `step.sleep "${id}"`)
        return { kind: 'sleep', ms, askedAtMs: performance.now() }
      }),
    sleepUntil: (id, instant) => askFor(id, () => ({ kind: 'sleep', until: readInstant(id, instant) })),
    waitForEvent: (id: string, options: WaitOptions & { schema?: StandardSchema }) =>
      askFor(id, () => readWait(id, options)),
    sendEvent: (id, events) => askFor(id, () => ({ kind: 'send', eventsText: toEventsText(events, `step "${id}"`) })),
  }
}

function readRun(id: string, body: unknown, own: Retries | undefined, retries: RetryPolicy): Wanted {
  if (typeof body !== 'function') {
    throw new TypeError(`Step "${id}" has no body. Pass a function: step.run("${id}", () => …).`)
  }
  return {
    kind: 'step',
    body: body as StepBody,
    retries: own === undefined ? retries : toRetryPolicy(own, `step "${id}"`),
  }
}

function readDuration(duration: Duration, where: string): number {
  try {
    return parseDuration(duration)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new StepwellError('duration_invalid', `${where}: ${why}`, { cause: error })
  }
}

function readInstant(id: string, instant: Date | string | number): string {
  const text = toInstantText(instant)
  if (text !== null) return text
  const shown = instant instanceof Date ? 'an invalid Date' : JSON.stringify(instant)
  throw new StepwellError(
    'duration_invalid',
    `step.sleepUntil "${id}": ${shown} is no instant. Pass a Date, milliseconds, or ISO 8601 with a zone (2026-01-31T12:00:00Z).`,
  )
}

function readWait(id: string, options: WaitOptions & { schema?: StandardSchema }): Wanted {
  const { event, match = {}, timeout, schema } = options
  if (!isName(event, LIMITS.eventNameChars)) {
    const message = `step.waitForEvent "${id}" needs the name of an event: 1 to ${LIMITS.eventNameChars} characters.`
    throw new StepwellError('match_invalid', message)
  }
  checkMatch(id, match)
  const timeoutMs = timeout === undefined ? undefined : readDuration(timeout, `step.waitForEvent "${id}"`)
  return { kind: 'wait', event, match: { ...match }, timeoutMs, schema }
}

function checkMatch(id: string, match: Match): void {
  const paths = Object.entries(match)
  if (paths.length > LIMITS.matchPaths) {
    throw matchInvalid(id, `it has ${paths.length} paths; at most ${LIMITS.matchPaths} are allowed`)
  }
  for (const [path, value] of paths) {
    if (!isName(path, LIMITS.matchPathChars)) {
      throw matchInvalid(id, `a path is no text of 1 to ${LIMITS.matchPathChars} characters`)
    }
    const isScalar = value === null || ['string', 'boolean'].includes(typeof value) || Number.isFinite(value)
    if (!isScalar) {
      throw matchInvalid(id, `"${path}" is ${value === undefined ? 'undefined' : 'no string, number, boolean or null'}`)
    }
    if (typeof value === 'string' && value.length > LIMITS.matchValueChars) {
      throw matchInvalid(id, `"${path}" is longer than ${LIMITS.matchValueChars} characters`)
    }
  }
}

function matchInvalid(id: string, why: string): StepwellError {
  return new StepwellError('match_invalid', `The match of step.waitForEvent "${id}" is not valid: ${why}.`)
}
