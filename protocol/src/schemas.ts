/**
 * Schemas of everything that crosses the wire: parse at the edge, trust inside. The only file that imports zod, and
 * its own entry (`@stepwell/protocol/schemas`), so that SDKs do not carry it.
 *
 * The types are written by hand, next to what they mean; `test/schema-types.ts` fails to compile when a schema and
 * its type differ. Unknown properties are dropped and never refused: a newer sender may know more.
 * Customers' JSON is not walked: it came out of a JSON parser, so that only its absence has to be noticed. Error texts
 * that are too long are cut instead of refused: an error must not keep a run from recording that it failed.
 */
import * as z from 'zod'
import type { WireError } from './error.ts'
import type { NewEvent } from './event.ts'
import { isInstant } from './instant.ts'
import type { Match } from './journal.ts'
import type { Json } from './json.ts'
import { LIMITS } from './limits.ts'
import { problemOfMatch } from './match.ts'
import { problemOfName } from './name.ts'
import { readWireError } from './wire-error.ts'

export { firstProblems } from './problems.ts'

/** Counters are 32 bit columns in the store: one larger number must not spoil a batch. */
const MAX_COUNT = 2 ** 31 - 1
/** A key is an id, and `#` and the number of the use when that is not the first. */
const KEY_CHARS = LIMITS.stepIdChars + 1 + String(LIMITS.stepsPerRun).length

const json = z.custom<Json>(value => value !== undefined, 'is missing')
const textWith = (problemOf: (text: string) => string | null, missing?: string) =>
  z.string({ error: issue => (issue.input === undefined ? missing : undefined) }).superRefine((text, context) => {
    const message = problemOf(text)
    if (message !== null) context.addIssue({ code: 'custom', message })
  })
const name = (maxChars: number, missing?: string) => textWith(text => problemOfName(text, maxChars), missing)
const instant = textWith(text =>
  isInstant(text) ? null : 'is not an ISO 8601 time with a zone (2026-01-31T12:00:00Z)',
)
const httpUrl = textWith(text => (isHttpUrl(text) ? null : 'is not an absolute http or https URL'))
const count = z.int().min(1).max(MAX_COUNT)
const durationMs = z.number().min(0).max(LIMITS.durationMs)
const key = name(KEY_CHARS)
const asked = { key, saw: count }
const functionId = z
  .string()
  .regex(/^[A-Za-z0-9._-]+$/, 'may hold letters, digits, ".", "_" and "-" only')
  .max(LIMITS.functionIdChars)

/** Not a zod record: that drops a path named `__proto__`, and the wait would match more than was asked for. */
const match = z.custom<Match>().superRefine((value, context) => {
  const problem = problemOfMatch(value)
  if (problem !== null) context.addIssue({ code: 'custom', ...problem })
})

/** A thrown value. Long texts and deep causes are cut to `LIMITS`. */
export const wireErrorSchema: z.ZodType<WireError> = z.unknown().transform((value, context) => {
  const error = readWireError(value)
  if (error !== null) return error
  context.addIssue({ code: 'custom', message: 'is not an error: it needs the texts "name" and "message"' })
  return z.NEVER
})

const event = z.object({ id: name(LIMITS.eventIdChars), name: name(LIMITS.eventNameChars), data: json, ts: instant })

/** One event as a sender posts it. The size of `data` is not checked here. */
export const newEventSchema = z.object({
  name: name(LIMITS.eventNameChars, 'is missing: an event needs a name, such as "user.created"'),
  data: json.exactOptional(),
  id: name(LIMITS.eventIdChars).exactOptional(),
  ts: instant.exactOptional(),
})

const newEvents = z
  .array(newEventSchema)
  .max(LIMITS.eventsPerCall, `holds more than ${LIMITS.eventsPerCall} events: send them in several calls`)

/**
 * The body of `POST /v1/events`: one event, an array, or `{ events: [...] }`. Paths of problems are those of the form
 * that was sent: `name`, `[3].name` or `events[3].name`.
 */
export const eventsBodySchema: z.ZodType<{ events: NewEvent[] }> = z.unknown().transform((body, context) => {
  const isWrapped = typeof body === 'object' && body !== null && 'events' in body
  const isSingle = !isWrapped && !Array.isArray(body)
  const parsed = newEvents.safeParse(isWrapped ? body.events : isSingle ? [body] : body)
  if (parsed.success) return { events: parsed.data }
  for (const issue of parsed.error.issues) {
    const path = isWrapped ? ['events', ...issue.path] : isSingle ? issue.path.slice(1) : issue.path
    context.issues.push({ ...issue, path, input: undefined })
  }
  return z.NEVER
})

const retry = z.object({
  maxAttempts: z.int().min(1).max(LIMITS.maxAttempts),
  minDelayMs: durationMs,
  maxDelayMs: durationMs,
  afterMs: durationMs.exactOptional(),
})
const attempt = z.int().min(1).max(LIMITS.maxAttempts)

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

/** What an app asks for. */
export const opSchema = z.discriminatedUnion('op', [
  stepOp,
  sleepOp,
  waitOp,
  z.object({ op: z.literal('send'), ...asked, events: newEvents }),
  z.object({ op: z.literal('finish'), output: json.exactOptional() }),
  z.object({ op: z.literal('fail'), error: wireErrorSchema }),
])

const head = { seq: count, turn: count, at: instant }
const failure = { error: wireErrorSchema, attempt }

/** One line of a journal. */
export const entrySchema = z.discriminatedUnion('type', [
  z.object({ ...head, type: z.literal('run_started'), data: event }),
  z.object({ ...head, type: z.literal('step_completed'), ...asked, data: json.exactOptional() }),
  z.object({ ...head, type: z.literal('step_failed'), ...asked, data: z.object(failure) }),
  z.object({ ...head, type: z.literal('step_retrying'), ...asked, data: z.object({ ...failure, dueAt: instant }) }),
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
])

const workspace = name(LIMITS.workspaceChars)
const runId = name(LIMITS.runIdChars)

/** Engine to app: one dispatch. The journal is dense from 1 and starts with `run_started`. */
export const turnSchema = z.object({
  kind: z.literal('turn'),
  workspace,
  function: functionId,
  run: z.object({ id: runId, generation: count }),
  turn: count,
  epoch: name(LIMITS.epochChars),
  budgetMs: durationMs,
  reportUrl: httpUrl,
  journal: z
    .array(entrySchema)
    .min(1)
    .superRefine((entries, context) => {
      const gap = entries.findIndex((entry, at) => entry.seq !== at + 1)
      if (gap !== -1) context.addIssue({ code: 'custom', path: [gap, 'seq'], message: `must be ${gap + 1}` })
      const odd = entries.findIndex((entry, at) => (entry.type === 'run_started') !== (at === 0))
      if (odd === -1) return
      context.addIssue({ code: 'custom', path: [odd, 'type'], message: 'entry 1, and no other, must be run_started' })
    }),
})

/** App to engine: ops and a state, wherever it travels. Its place decides whether `running` is allowed. */
export const reportSchema = z
  .object({
    kind: z.literal('report'),
    run: runId,
    generation: count,
    turn: count,
    epoch: name(LIMITS.epochChars),
    n: count,
    state: z.enum(['running', 'continue', 'waiting', 'done', 'refused']),
    ops: z.array(opSchema).max(LIMITS.opsPerReport),
    error: wireErrorSchema.exactOptional(),
    replayMs: durationMs.exactOptional(),
  })
  .superRefine((report, context) => {
    const early = report.ops.findIndex((op, at) => isEnd(op) && at < report.ops.length - 1)
    if (early !== -1) {
      context.addIssue({ code: 'custom', path: ['ops', early], message: 'finish and fail must be the last op' })
    }
    const last = report.ops.at(-1)
    if ((report.state === 'done') !== (last !== undefined && isEnd(last))) {
      const message = 'must be "done" exactly when the last op is finish or fail'
      context.addIssue({ code: 'custom', path: ['state'], message })
    }
    if (report.state === 'refused' && report.error === undefined) {
      context.addIssue({ code: 'custom', path: ['error'], message: 'is missing: "refused" must say why' })
    }
  })

/** `POST` to a turn's `reportUrl`. */
export const reportBatchSchema = z.object({
  kind: z.literal('reports'),
  workspace,
  reports: z.array(reportSchema).min(1).max(LIMITS.reportsPerBatch),
})

const ackHead = { run: runId, n: count }

/** The engine's answer to a report batch. */
export const ackBatchSchema = z.object({
  kind: z.literal('acks'),
  acks: z
    .array(
      z.discriminatedUnion('status', [
        z.object({
          ...ackHead,
          status: z.literal(200),
          entries: z.array(entrySchema),
          yield: z.literal(true).exactOptional(),
        }),
        z.object({ ...ackHead, status: z.literal([409, 421, 422]), code: z.string(), message: z.string() }),
      ]),
    )
    .max(LIMITS.reportsPerBatch),
})

/** Engine to app: which functions are here? */
export const describeSchema = z.object({ kind: z.literal('describe'), workspace })

const trigger = z.object({ event: name(LIMITS.eventNameChars) })

/** The app's answer: ids are unique. */
export const descriptionSchema = z.object({
  kind: z.literal('description'),
  sdk: name(LIMITS.sdkChars),
  functions: z.array(z.object({ id: functionId, triggers: z.array(trigger) })).superRefine((functions, context) => {
    const seen = new Set<string>()
    functions.forEach(({ id }, at) => {
      if (seen.has(id)) context.addIssue({ code: 'custom', path: [at, 'id'], message: `"${id}" is here twice` })
      seen.add(id)
    })
  }),
})

/** App to engine, `POST /v1/sync`. */
export const syncRequestSchema = z.object({ url: httpUrl, functions: z.array(functionId).exactOptional() })

function isHttpUrl(text: string): boolean {
  return text.length <= LIMITS.urlChars && /^https?:\/\//i.test(text) && URL.canParse(text)
}

function isEnd(op: { op: string }): boolean {
  return op.op === 'finish' || op.op === 'fail'
}
