/** What a durable function is: an id, a trigger, a policy and a handler, as plain data. */
import { type Duration, type FunctionDescription, LIMITS } from '@stepwell/protocol'
import type { EventMap, EventName, InvokedEvent, SchemaEvent, TypedEvent, UntypedEvents } from './event-types.ts'
import { isName } from './names.ts'
import { toFollowers, toPolicies } from './policies.ts'
import { type Retries, type RetryRules, toRetryRules } from './retries.ts'
import type { StandardSchema } from './standard-schema.ts'
import type { Step } from './step.ts'

/** What a handler is given. */
export interface HandlerContext<Event, Events extends EventMap = UntypedEvents> {
  /** The event that started the run. */
  event: Event
  /** Steps: what a handler does to the world goes through here. */
  step: Step<Events>
  /** The run itself; generations count from 1. */
  run: { readonly id: string; readonly generation: number }
}

/** What is known of a run that has failed or was cancelled, for the function that follows it. */
export interface EndedContext<Event, Events extends EventMap = UntypedEvents> extends HandlerContext<Event, Events> {
  /** The event that had started the run. */
  event: Event
  /** Why it ended. */
  error: Error
  /** The run that has ended; `run` is the one that follows it. */
  endedRun: string
}

/** What a function says about all of its runs. */
export interface RunPolicies<Event, Events extends EventMap> {
  /** How often each of its steps is tried again: 3 retries by default, after 1 second to 1 hour. */
  retries?: Retries
  /** A run that takes longer is cancelled: until its first turn (`start`), until its end (`finish`). */
  timeouts?: { start?: Duration; finish?: Duration }
  /**
   * Events that cancel a run. `match` names paths that must have the same value in that event and in the one that started the
   * run: `"orderId"`, a list of them, or `{ "order.id": "orderId" }` where they differ (there: here).
   */
  cancelOn?: readonly { event: string; match?: string | readonly string[] | { [path: string]: string } }[]
  /** Tags that a run starts with: names, and paths into the event's data (`{ customer: "customer.id" }`). */
  tags?: { [name: string]: string }
  /** Runs, with steps of its own, when a run has failed. */
  onFailure?: (context: EndedContext<Event, Events>) => unknown
  /** Runs, with steps of its own, when a run was cancelled. */
  onCancel?: (context: EndedContext<Event, Events>) => unknown
}

/** The same, whatever the types of its events. */
export type AnyPolicies = Omit<RunPolicies<unknown, UntypedEvents>, 'onFailure' | 'onCancel'> & {
  onFailure?: (context: never) => unknown
  onCancel?: (context: never) => unknown
}

/** What `createFunction` takes. */
export interface FunctionOptions<Trigger, Event, Events extends EventMap, Output> extends RunPolicies<Event, Events> {
  /** 1 to 128 of letters, digits, `.`, `_` and `-`. Unique in the app; a new id is a new function. */
  id: string
  trigger: Trigger
  /**
   * A whole number from 1, the default. A run goes on with the version that it began with; serve the older ones beside the newest
   * for as long as they have runs. New runs, and next generations, get the newest.
   */
  version?: number
  /**
   * Of the newest version: what becomes of runs whose version is not served any more. `wait` (the default): they wait, and say
   * so. `latest`: they go on with the newest; a journal that does not fit it is refused (`journal_mismatch`).
   */
  onMissing?: 'wait' | 'latest'
  /**
   * Runs from the top on every replay, and gets the recorded results of the steps that are done. So it has to do the
   * same when it sees the same: clocks, dice and calls to the world belong into `step.run`.
   */
  handler: (context: HandlerContext<Event, Events>) => Output | Promise<Output>
}

/** A function that `serve` takes and `client.sync` announces. Make one with `createFunction`. */
export interface DurableFunction<Output = unknown> {
  readonly id: string
  readonly version: number
  readonly onMissing: 'wait' | 'latest'
  /** Null for one that only other functions start. */
  readonly trigger: { readonly event: string; readonly schema: StandardSchema | undefined } | null
  readonly retries: RetryRules
  /** As the engine is told. */
  readonly policies: Omit<FunctionDescription, 'id' | 'triggers'>
  /** The functions that follow its failure or its cancellation. */
  readonly followers: readonly DurableFunction[]
  /** `never`: the type of the context was checked where the function was declared. */
  readonly handler: (context: never) => Output | Promise<Output>
}

const MAX_VERSION = 2 ** 31 - 1
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
): DurableFunction<Output>
export function createFunction<
  Events extends EventMap = UntypedEvents,
  Name extends EventName<Events> = EventName<Events>,
  Output = unknown,
>(options: FunctionOptions<{ event: Name }, TypedEvent<Events, Name>, Events, Output>): DurableFunction<Output>
export function createFunction<Data = UntypedEvents[string], Output = unknown>(
  options: Omit<FunctionOptions<null, InvokedEvent<Data>, UntypedEvents, Output>, 'trigger'> & { trigger?: null },
): DurableFunction<Output>
export function createFunction(
  options: AnyPolicies & {
    id: string
    version?: number
    onMissing?: 'wait' | 'latest'
    trigger?: { event: string; schema?: StandardSchema } | null
    handler: (context: never) => unknown
  },
): DurableFunction {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(
      'createFunction takes an object: createFunction({ id: "onboarding", trigger: { event: "user.created" }, handler }).',
    )
  }
  const { id, trigger, retries, handler, version = 1, onMissing = 'wait' } = options
  checkFunctionId(id)
  if (trigger != null && trigger.event === undefined && typeof trigger === 'object' && 'cron' in trigger) {
    throw new TypeError(
      `The trigger of function "${id}" has no event. Schedules (cron) are not in this version; events are: trigger: { event: "user.created" }.`,
    )
  }
  if (trigger != null) checkTrigger(id, trigger)
  if (!Number.isInteger(version) || version < 1 || version > MAX_VERSION) {
    throw new TypeError(`The version of function "${id}" is ${String(version)}; use a whole number from 1.`)
  }
  if (typeof handler !== 'function') {
    throw new TypeError(`Function "${id}" has no handler. Add handler: async ({ event, step }) => { … }.`)
  }
  const rules = toRetryRules(retries, `function "${id}"`)
  return {
    id,
    version,
    onMissing,
    trigger: trigger == null ? null : { event: trigger.event, schema: trigger.schema },
    retries: rules,
    policies: toPolicies(id, options),
    followers: toFollowers(id, rules, options),
    handler,
  }
}

function checkTrigger(id: string, trigger: { event: string; schema?: StandardSchema }): void {
  if (typeof trigger.event !== 'string' || trigger.event === '') {
    throw new TypeError(
      `The trigger of function "${id}" has no event. Say what starts it: trigger: { event: "user.created" }.`,
    )
  }
  if (!isName(trigger.event, LIMITS.eventNameChars)) {
    throw new TypeError(`The event name of function "${id}" is no text of 1 to ${LIMITS.eventNameChars} characters.`)
  }
  if (trigger.schema !== undefined && typeof trigger.schema['~standard']?.validate !== 'function') {
    throw new TypeError(`The schema of function "${id}" is not a Standard Schema. Pass one of zod, valibot or arktype.`)
  }
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
