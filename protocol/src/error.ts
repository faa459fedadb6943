import type { Json } from './json.ts'

/** A thrown value on the wire. `cause` is nested at most `LIMITS.errorCauseDepth` deep. */
export interface WireError {
  name: string
  message: string
  stack?: string
  /** A machine-readable code, when the error had one. Stepwell's own are `ErrorCode`s. */
  code?: string
  cause?: WireError
}

/** Every code that Stepwell itself gives. Codes are API: never renamed. SPEC.md section 9 says what each one means. */
export const ERROR_CODES = [
  // who is asking
  'signature_missing',
  'signature_invalid',
  'timestamp_out_of_tolerance',
  'request_replayed',
  'workspace_unknown',
  'host_not_allowed',
  'origin_not_allowed',
  'stream_token_invalid',
  'stream_token_expired',
  'stream_not_allowed',
  // what is asked
  'version_unknown',
  'kind_unknown',
  'method_not_allowed',
  'not_found',
  'body_invalid',
  'body_too_large',
  'query_invalid',
  'too_many_events',
  'event_too_large',
  'function_not_found',
  'version_not_found',
  'run_not_found',
  'stale_epoch',
  'not_holder',
  // the state of the engine
  'draining',
  'unavailable',
  'too_many_streams',
  'internal',
  // an app that does not answer as it should: the turn is sent again
  'app_unreachable',
  'app_timeout',
  'app_closed',
  'app_redirected',
  'app_status',
  'app_body_invalid',
  'app_body_too_large',
  'app_signature_invalid',
  'app_functions_differ',
  'app_unknown',
  'turn_refused',
  // a handler that cannot go on
  'journal_mismatch',
  'handler_stalled',
  'nested_step',
  'duplicate_step',
  'step_id_invalid',
  'duration_invalid',
  'match_invalid',
  'retries_invalid',
  'value_not_json',
  'event_data_invalid',
  'step_output_too_large',
  'step_timed_out',
  'step_heartbeat_lost',
  'tx_tables_missing',
  'child_timed_out',
  'poll_timed_out',
  'middleware_failed',
  'channel_invalid',
  'publish_too_large',
  'status_too_large',
  'tags_invalid',
  'run_cancelled',
  'run_ended',
  'too_many_signals',
  'too_many_steps',
  'journal_too_large',
] as const

export type ErrorCode = (typeof ERROR_CODES)[number]

/** An error answer of the REST API and of an app's endpoint: RFC 9457, `application/problem+json`. */
export interface Problem {
  /** `urn:stepwell:error:` and the code. */
  type: string
  title: string
  status: number
  code: ErrorCode
  /** What happened, to which thing, and what to do next. */
  detail: string
  /** Where in the body: JSON paths from its root (`events[3].name`). */
  errors?: { path: string; message: string }[]
  requestId?: string
  [extra: string]: Json | undefined | { path: string; message: string }[]
}
