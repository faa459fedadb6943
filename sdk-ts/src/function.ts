/** What a durable function is: an id, a trigger, a policy and a handler, as plain data. */
import { LIMITS, type RetryPolicy } from '@stepwell/protocol'
import type { EventMap, EventName, SchemaEvent, TypedEvent, UntypedEvents } from './event-types.ts'
import { isName } from './names.ts'
import { type Retries, toRetryPolicy } from './retries.ts'
import type { StandardSchema } from './standard-schema.ts'
import type { Step } from './step-tools.ts'

/** What a handler is given. */
export interface HandlerContext<Event, Events extends EventMap = UntypedEvents> {
  /** The event that started the run. */
  event: Event
  /** Steps: what a handler does to the world goes through here. */
  step: Step<Events>
  /** The run itself; generations count from 1. */
  run: { readonly id: string; readonly generation: number }
}

/** What `createFunction` takes. */
export interface FunctionOptions<Trigger, Event, Events extends EventMap, Output> {
  /** 1 to 128 of letters, digits, `.`, `_` and `-`. Unique in the app; a new id is a new function. */
  id: string
  trigger: Trigger
  /** How often each of its steps is tried again: 3 retries by default, after 1 second to 1 hour. */
  retries?: Retries
  /**
   * Runs from the top on every replay, and gets the recorded results of the steps that are done. So it has to do the
   * same when it sees the same: clocks, dice and calls to the world belong into `step.run`.
   */
  handler: (context: HandlerContext<Event, Events>) => Output | Promise<Output>
}

/** A function that `serve` takes and `client.sync` announces. Make one with `createFunction`. */
export interface DurableFunction {
  readonly id: string
  readonly trigger: { readonly event: string; readonly schema: StandardSchema | undefined }
  readonly retries: RetryPolicy
  /** `never`: the type of the context was checked where the function was declared. */
  readonly handler: (context: never) => unknown
}

const FUNCTION_ID = /^[A-Za-z0-9._-]+$/

/**
 * Declares a durable function. Types of events come from a map (`createFunction<Events, 'user.created'>`), from a
 * Standard Schema in the trigger, or are left open.
 * @throws TypeError when the id, the trigger or the handler is missing or malformed
 * @throws StepwellError `retries_invalid`
 * @example
 * const onboarding = createFunction({
 *   id: 'onboarding',
 *   trigger: { event: 'user.created' },
 *   handler: async ({ event, step }) => {
 *     const user = await step.run('load-user', () => db.users.find(event.data.id))
 *     await step.sleep('cooldown', '2d')
 *     await step.run('send-email', () => mail.send(user))
 *   },
 * })
 */
export function createFunction<Schema extends StandardSchema, Name extends string, Output = unknown>(
  options: FunctionOptions<{ event: Name; schema: Schema }, SchemaEvent<Schema, Name>, UntypedEvents, Output>,
): DurableFunction
export function createFunction<
  Events extends EventMap = UntypedEvents,
  Name extends EventName<Events> = EventName<Events>,
  Output = unknown,
>(options: FunctionOptions<{ event: Name }, TypedEvent<Events, Name>, Events, Output>): DurableFunction
export function createFunction(options: {
  id: string
  trigger: { event: string; schema?: StandardSchema }
  retries?: Retries
  handler: (context: never) => unknown
}): DurableFunction {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(
      'createFunction takes an object: createFunction({ id: "onboarding", trigger: { event: "user.created" }, handler }).',
    )
  }
  const { id, trigger, retries, handler } = options
  checkFunctionId(id)
  if (trigger?.event === undefined && typeof trigger === 'object' && 'cron' in trigger) {
    throw new TypeError(
      `The trigger of function "${id}" has no event. Schedules (cron) are not in this version; events are: trigger: { event: "user.created" }.`,
    )
  }
  if (typeof trigger?.event !== 'string' || trigger.event === '') {
    throw new TypeError(`Function "${id}" has no trigger. Say what starts it: trigger: { event: "user.created" }.`)
  }
  if (!isName(trigger.event, LIMITS.eventNameChars)) {
    throw new TypeError(`The event name of function "${id}" is no text of 1 to ${LIMITS.eventNameChars} characters.`)
  }
  if (trigger.schema !== undefined && typeof trigger.schema['~standard']?.validate !== 'function') {
    throw new TypeError(`The schema of function "${id}" is not a Standard Schema. Pass one of zod, valibot or arktype.`)
  }
  if (typeof handler !== 'function') {
    throw new TypeError(`Function "${id}" has no handler. Add handler: async ({ event, step }) => { … }.`)
  }
  const policy = toRetryPolicy(retries, `function "${id}"`)
  return { id, trigger: { event: trigger.event, schema: trigger.schema }, retries: policy, handler }
}

function checkFunctionId(id: unknown): void {
  if (typeof id !== 'string' || id === '') throw new TypeError('A function needs an id, such as "onboarding".')
  if (id.length > LIMITS.functionIdChars || !FUNCTION_ID.test(id)) {
    const shown = JSON.stringify(id.length > 60 ? `${id.slice(0, 60)}…` : id)
    throw new TypeError(
      `The function id ${shown} is not valid: use 1 to ${LIMITS.functionIdChars} letters, digits, ".", "_" or "-".`,
    )
  }
}
