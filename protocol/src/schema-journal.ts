/** Schemas of ops and of the entries that they become. */
import * as z from 'zod'
import { LIMITS } from './limits.ts'
import { channel, newEvents } from './schema-events.ts'
import {
  asked,
  attempt,
  count,
  durationMs,
  event,
  instant,
  invokedId,
  json,
  key,
  match,
  name,
  runId,
  wireErrorSchema,
} from './schema-parts.ts'

const retry = z.object({
  maxAttempts: z.int().min(1).max(LIMITS.maxAttempts),
  minDelayMs: durationMs,
  maxDelayMs: durationMs,
  factor: z.number().min(1).max(LIMITS.retryFactor).exactOptional(),
  afterMs: durationMs.exactOptional(),
})

const stepOp = z
  .object({
    op: z.literal('step'),
    ...asked,
    attempt,
    output: json.exactOptional(),
    error: wireErrorSchema.exactOptional(),
    retry: retry.exactOptional(),
    startedMs: durationMs.exactOptional(),
    durationMs: durationMs.exactOptional(),
    undo: z.literal(true).exactOptional(),
  })
  .refine(op => !('error' in op && 'output' in op), 'has both an output and an error')
  .refine(op => !('retry' in op && !('error' in op)), 'has a retry policy without an error')

const sleepOp = z
  .object({
    op: z.literal('sleep'),
    ...asked,
    ms: durationMs.exactOptional(),
    until: instant.exactOptional(),
    ageMs: durationMs.exactOptional(),
  })
  .refine(op => 'ms' in op !== 'until' in op, 'needs exactly one of "ms" and "until"')

const waitOp = z.object({
  op: z.literal('wait'),
  ...asked,
  event: name(LIMITS.eventNameChars),
  match: match.exactOptional(),
  timeoutMs: durationMs.exactOptional(),
})

const publishedData = json.refine(value => Buffer.byteLength(JSON.stringify(value)) <= LIMITS.publishBytes, {
  message: `has more than ${LIMITS.publishBytes} bytes: store it elsewhere and publish where it is`,
})

/** What an app asks for. */
export const opSchema = z.discriminatedUnion('op', [
  stepOp,
  sleepOp,
  waitOp,
  z.object({ op: z.literal('send'), ...asked, events: newEvents }),
  z.object({
    op: z.literal('receive'),
    ...asked,
    signal: name(LIMITS.eventNameChars),
    timeoutMs: durationMs.exactOptional(),
  }),
  z.object({
    op: z.literal('invoke'),
    ...asked,
    function: invokedId,
    data: json.exactOptional(),
    timeoutMs: durationMs.exactOptional(),
    onCancel: z.enum(['cancel', 'abandon']).exactOptional(),
    detached: z.literal(true).exactOptional(),
  }),
  z.object({ op: z.literal('publish'), ...asked, channel, data: publishedData }),
  z.object({ op: z.literal('finish'), output: json.exactOptional() }),
  z.object({ op: z.literal('fail'), error: wireErrorSchema }),
  z.object({ op: z.literal('cancelled') }),
  z.object({
    op: z.literal('continue_as_new'),
    input: json.exactOptional(),
    unread: z.array(key).max(LIMITS.stepsPerRun).exactOptional(),
  }),
])

const head = { seq: count, turn: count, at: instant }
const failure = { error: wireErrorSchema, attempt }
const child = { run: runId, function: invokedId }
const cancelReason = z.object({
  by: z.enum(['request', 'event', 'parent', 'start_timeout', 'finish_timeout']),
  message: z.string().max(LIMITS.cancelMessageChars),
})
/** One line of a journal. */
export const entrySchema = z.discriminatedUnion('type', [
  z.object({ ...head, type: z.literal('run_started'), data: event }),
  z.object({ ...head, type: z.literal('step_completed'), ...asked, data: json.exactOptional() }),
  z.object({ ...head, type: z.literal('step_failed'), ...asked, data: z.object(failure) }),
  z.object({
    ...head,
    type: z.literal('step_retrying'),
    ...asked,
    data: z.object({ ...failure, dueAt: instant, durationMs: durationMs.exactOptional() }),
  }),
  z.object({ ...head, type: z.literal('step_due'), key }),
  z.object({ ...head, type: z.literal('sleep_started'), ...asked, data: z.object({ until: instant }) }),
  z.object({ ...head, type: z.literal('sleep_completed'), key }),
  z.object({
    ...head,
    type: z.literal('wait_opened'),
    ...asked,
    data: z.object({
      event: name(LIMITS.eventNameChars),
      match: match.exactOptional(),
      expiresAt: instant.exactOptional(),
    }),
  }),
  z.object({ ...head, type: z.literal('wait_matched'), key, data: event }),
  z.object({ ...head, type: z.literal('wait_expired'), key }),
  z.object({
    ...head,
    type: z.literal('events_sent'),
    ...asked,
    data: z.object({ ids: z.array(name(LIMITS.eventIdChars)).max(LIMITS.eventsPerCall) }),
  }),
  z.object({ ...head, type: z.literal('published'), ...asked, data: z.object({ channel }) }),
  z.object({
    ...head,
    type: z.literal('signal_awaited'),
    ...asked,
    data: z.object({ signal: name(LIMITS.eventNameChars), expiresAt: instant.exactOptional() }),
  }),
  z.object({ ...head, type: z.literal('signal_received'), key, data: event }),
  z.object({ ...head, type: z.literal('signal_expired'), key }),
  z.object({
    ...head,
    type: z.literal('child_started'),
    ...asked,
    data: z.object({ ...child, expiresAt: instant.exactOptional() }),
  }),
  z.object({ ...head, type: z.literal('child_completed'), key, data: json.exactOptional() }),
  z.object({
    ...head,
    type: z.literal('child_failed'),
    key,
    saw: count.exactOptional(),
    data: z.object({ error: wireErrorSchema }),
  }),
  z.object({ ...head, type: z.literal('child_expired'), key }),
  z.object({ ...head, type: z.literal('child_detached'), ...asked, data: z.object(child) }),
  z.object({ ...head, type: z.literal('cancel_requested'), data: cancelReason }),
])
