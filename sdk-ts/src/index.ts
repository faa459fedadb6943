/** The public names of the SDK. */
export type {
  Duration,
  ErrorCode,
  JournalEntryView,
  Json,
  Match,
  RunState,
  RunView,
  StreamTokenAnswer,
  SyncAnswer,
} from '@stepwell/protocol'
export { type ClientOptions, type SentEvent, StepwellClient } from './client.ts'
export { NonRetriableError, RetryAfterError, StepError, StepwellError, TimeoutError } from './errors.ts'
export type { EventMap, TypedEvent, TypedNewEvent, UntypedEvents } from './event-types.ts'
export {
  createFunction,
  type DurableFunction,
  type EndedContext,
  type FunctionOptions,
  type HandlerContext,
  type RunPolicies,
} from './function.ts'
export type { Jsonified } from './jsonified.ts'
export type { SigningKey } from './keys.ts'
export type { BodyInfo, Middleware, Payload, TurnInfo } from './middleware.ts'
export type { Retries, RetryOptions } from './retries.ts'
export { type Endpoint, type ServeOptions, serve } from './serve.ts'
export type { SqlClient, TransactionAdapter, TxOf, TxQuery } from './sql-client.ts'
export type { StandardSchema } from './standard-schema.ts'
export type { InvokeOptions, OutputOf, RunOptions, Signal, Step, TxOptions, WaitOptions } from './step.ts'
export type { StepContext } from './step-body.ts'
