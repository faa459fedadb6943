/** `step.*`: what a handler may ask for, as its author sees it. */
import type { Duration, Match } from '@stepwell/protocol'
import type { EventMap, EventName, SchemaEvent, TypedEvent, TypedNewEvent, UntypedEvents } from './event-types.ts'
import type { DurableFunction } from './function.ts'
import type { Jsonified } from './jsonified.ts'
import type { Retries } from './retries.ts'
import type { SqlClient, TxOf } from './sql-client.ts'
import type { StandardSchema } from './standard-schema.ts'
import type { StepContext } from './step-body.ts'

/** How a step is run. */
export interface RunOptions<Output = never> {
  /** Instead of those of the function. */
  retries?: Retries
  /**
   * How long one execution of the body may take. Then its signal fires and the attempt fails with a TimeoutError
   * (`step_timed_out`), retried like any other failure. A body that ignores the signal goes on beside the next attempt, and
   * what it gives is not recorded.
   */
  timeout?: Duration
  /** The same when the body has not called `context.heartbeat()` for this long (`step_heartbeat_lost`). */
  heartbeat?: Duration
  /**
   * Takes the effect back: called with the step's output when the run fails or is cancelled after the step has completed.
   * The undos of a run are steps themselves (`undo:` and the key), run one by one, the last completed step first. One that
   * fails for good is named in the error of a failed run, and the others still run. A step that has failed, or whose body was
   * cut off, is not undone.
   */
  undo?: (output: Output, context: StepContext) => unknown
}

/** How a step in a transaction is run. */
export interface TxOptions<Output = never, Tx = never> {
  /** Instead of those of the function. */
  retries?: Retries
  /** As `undo` of `step.run`; in a transaction of its own, whose effect is there once as well. */
  undo?: (output: Output, tx: Tx, context: StepContext) => unknown
  /** Where the table `step_results` is; `stepwell` by default. */
  schema?: string
}

/** Which event a wait is for. */
export interface WaitOptions<Name extends string = string> {
  /** The name of the event. */
  event: Name
  /** Paths into the event's data and the values they must have: `{ userId: user.id }`. */
  match?: Match
  /** Give up after this long: the wait then gives null. Without it, it waits for as long as the run lives. */
  timeout?: Duration
}

/** A message that this run has received. */
export interface Signal {
  readonly id: string
  readonly name: string
  /** As JSON brought it. `any`: nobody has declared it. */
  // biome-ignore lint/suspicious/noExplicitAny: as for untyped events, `unknown` would make every handler cast.
  readonly data: any
  /** When the engine got it: ISO 8601 with milliseconds, UTC. */
  readonly ts: string
}

/** Which function to start as a child of this run. */
export interface InvokeOptions<Child extends DurableFunction | string = DurableFunction | string> {
  /** A function, or its id: of this app, or of any that serves the same workspace. */
  function: Child
  /** What the child finds in `event.data`. */
  data?: unknown
  /** How long to wait for its end; the child goes on after that. Without it, as long as it takes. */
  timeout?: Duration
  /** What becomes of the child when this run is cancelled: `cancel` (the default), or `abandon`: it goes on. */
  onCancel?: 'cancel' | 'abandon'
  /** Start it and go on at once. It is still cancelled with this run, unless `onCancel` says otherwise. */
  detached?: boolean
}

/** What a function gives, as its parent gets it. */
export type OutputOf<Child> = Child extends DurableFunction<infer Output> ? Jsonified<Awaited<Output>> : unknown

/** The steps of a run. Ids are names: once a run has used one, it stands for what was recorded under it. */
export interface Step<Events extends EventMap = UntypedEvents> {
  /**
   * Runs the body once and records what it returns: every replay gets that value back, as JSON gives it. The body may
   * run again when the process dies before the result is recorded, so make its effects idempotent (`idempotencyKey`).
   * @throws StepError when the last attempt has failed
   */
  run<T>(
    id: string,
    body: (context: StepContext) => T,
    options?: RunOptions<Jsonified<Awaited<NoInfer<T>>>>,
  ): Promise<Jsonified<Awaited<T>>>
  /**
   * Runs the body inside one transaction of the app's own Postgres, and records what it returns in the same transaction: what
   * it changes there is there once, also when the process dies between the commit and the report. A later attempt gets the
   * result of the one that has committed, and the body does not run again. A body that fails leaves nothing behind.
   * `@stepwell/sdk/postgres` has what creates the table (`ensureStepwellTables`); docs/postgres.md says what is promised.
   * @param client of postgres.js, of node-postgres (a Pool, or a Client that nothing else uses meanwhile), or an adapter
   * @param body gets the transaction: the tagged template of postgres.js, the connection of node-postgres, or the adapter's
   * @throws StepError when the last attempt has failed; its code is `tx_tables_missing` where the table is not there
   * @example
   * const id = await step.tx('charge', sql, async tx => {
   *   const [row] = await tx`insert into charges (order_id) values (${event.data.orderId}) returning id`
   *   return row.id
   * })
   */
  tx<Client extends SqlClient, T>(
    id: string,
    client: Client,
    body: (tx: TxOf<Client>, context: StepContext) => T,
    options?: TxOptions<Jsonified<Awaited<NoInfer<T>>>, TxOf<Client>>,
  ): Promise<Jsonified<Awaited<T>>>
  /** Lets the run rest; no process and no connection is held meanwhile. */
  sleep(id: string, duration: Duration): Promise<void>
  /**
   * As `sleep`, until an instant: a Date, ISO 8601, or Unix time in milliseconds. One in the past is over at once.
   * @throws StepwellError `duration_invalid`, also when it is more than 366 days away
   */
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
   * Waits for a message to this run (`client.signal`), also one that came before. Messages of one name are received in the
   * order in which they came; where several waits of the run are open for it, the newest gets the next one.
   * @returns the message, or null when the time-out came first
   */
  waitForSignal(id: string, name: string, options?: { timeout?: Duration }): Promise<Signal | null>
  /**
   * Sends events, recorded in the transaction that stores them: they are sent once.
   * @returns the ids of the events, in the order given
   */
  sendEvent(id: string, events: TypedNewEvent<Events> | readonly TypedNewEvent<Events>[]): Promise<string[]>
  /**
   * Publishes a message to whoever follows this run from outside, such as the web page that waits for it (`subscribe` of
   * `@stepwell/sdk/browser`). It is published once, in order, however often the handler is replayed, and kept for those
   * who come later. The handler need not await it: the promise resolves when the message is recorded.
   * @param data any JSON of at most 64 KiB; null when it is left out
   * @throws StepwellError `channel_invalid`, `publish_too_large`, `value_not_json`
   */
  publish(channel: string, data?: unknown): Promise<void>
  /**
   * Starts another function as a child of this run and waits for its result.
   * @returns what the child returned; its id, with `detached`
   * @throws StepError with what the child failed with, or with the code `run_cancelled` or `function_not_found`;
   *   StepwellError `child_timed_out`
   */
  invoke<Child extends DurableFunction | string>(
    id: string,
    options: InvokeOptions<Child> & { detached: true },
  ): Promise<{ run: string }>
  invoke<Child extends DurableFunction | string>(id: string, options: InvokeOptions<Child>): Promise<OutputOf<Child>>
  /**
   * One step or one child for each item (`id:0`, `id:1`, …), at most `concurrency` at a time.
   * @returns the results, in the order of the items
   * @throws what the first of them that fails throws; those under way go on, and no further ones are started
   */
  map<Item, T>(
    id: string,
    items: readonly Item[],
    body: (item: Item, context: StepContext & { readonly index: number }) => T,
    options?: { concurrency?: number } & Pick<RunOptions, 'retries' | 'timeout' | 'heartbeat'>,
  ): Promise<Jsonified<Awaited<T>>[]>
  map<Item, Child extends DurableFunction | string>(
    id: string,
    items: readonly Item[],
    options: Omit<InvokeOptions<Child>, 'data' | 'detached'> & { concurrency?: number },
  ): Promise<OutputOf<Child>[]>
  /**
   * Runs the body until what it gives is enough, and rests in between. Each try is a step (`id`, `id#2`, …).
   * @returns what the body gave last
   * @throws StepwellError `poll_timed_out` when the next try would come after `timeout`
   */
  poll<T>(
    id: string,
    body: (context: StepContext) => T,
    options: {
      /** How long to rest between two tries. */
      every: Duration
      /** Whether this is enough; anything that is not null, undefined or false, when left out. */
      until?: (value: Jsonified<Awaited<NoInfer<T>>>) => boolean
      /** From the first try on. */
      timeout?: Duration
      retries?: Retries
    },
  ): Promise<Jsonified<Awaited<T>>>
  /**
   * The time by the run's clock: when what the handler has seen last reached the run. The same on every replay, and good for
   * deadlines: after a sleep it is never before the sleep's end.
   */
  now(): Date
  /** A number from 0 to 1, as `Math.random()`, but the same on every replay. No secrets: it can be guessed from the run's id. */
  random(): number
  /** A UUID (v4) from `random`. */
  uuid(): string
  /** Says of the run, for whoever looks at it from outside (`client.getRun`), where it is: any JSON. It is recorded with the next report. */
  setStatus(status: unknown): void
  /** Adds tags, by which runs are found; null takes one away. */
  setTags(tags: { [name: string]: string | null }): void
  /**
   * Goes on as the next generation of the same run: the handler starts anew with `input` in `event.data`, with an empty journal.
   * Messages that were not received are kept. Nothing after it is reached.
   */
  continueAsNew(input?: unknown): Promise<never>
}
