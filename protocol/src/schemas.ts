/**
 * Schemas of everything that crosses the wire: parse at the edge, trust inside. Only this and its parts (`schema-…`) import zod, and
 * its own entry (`@stepwell/protocol/schemas`), so that SDKs do not carry it.
 *
 * The types are written by hand, next to what they mean; `test/schema-types.ts` fails to compile when a schema and
 * its type differ. Unknown properties are dropped and never refused: a newer sender may know more.
 * Customers' JSON is not walked: it came out of a JSON parser, so that only its absence has to be noticed. Error texts
 * that are too long are cut instead of refused: an error must not keep a run from recording that it failed.
 */
import * as z from 'zod'
import { LIMITS } from './limits.ts'
import { problemOfMatch } from './match.ts'
import { problemOfName } from './name.ts'
import { isEndOp } from './op.ts'
import { entrySchema, opSchema } from './schema-journal.ts'
import { count, durationMs, functionId, httpUrl, json, name, runId, wireErrorSchema } from './schema-parts.ts'
import { problemOfTags } from './tags.ts'
import type { Tags } from './turn.ts'

export { firstProblems } from './problems.ts'
export {
  cancelBodySchema,
  channel as channelSchema,
  eventsBodySchema,
  newEventSchema,
  newSignalSchema,
  newStreamTokenSchema,
} from './schema-events.ts'
export { entrySchema, opSchema } from './schema-journal.ts'
export { wireErrorSchema } from './schema-parts.ts'

const tags = z.custom<Tags>().superRefine((value, context) => {
  const problem = problemOfTags(value)
  if (problem !== null) context.addIssue({ code: 'custom', ...problem })
})
/** Small, because it is written with each change, and shown in lists. */
const status = json.refine(value => Buffer.byteLength(JSON.stringify(value)) <= LIMITS.statusBytes, {
  message: `has more than ${LIMITS.statusBytes} bytes: a status is a few words or numbers`,
})

const workspace = name(LIMITS.workspaceChars)

/** Engine to app: one dispatch. The journal is dense from 1 and starts with `run_started`. */
export const turnSchema = z.object({
  kind: z.literal('turn'),
  workspace,
  function: functionId,
  version: count.exactOptional(),
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
  status: json.exactOptional(),
  tags: tags.exactOptional(),
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
    status: status.exactOptional(),
    tags: tags.exactOptional(),
    replayMs: durationMs.exactOptional(),
  })
  .superRefine((report, context) => {
    const early = report.ops.findIndex((op, at) => isEndOp(op) && at < report.ops.length - 1)
    if (early !== -1) {
      context.addIssue({
        code: 'custom',
        path: ['ops', early],
        message: `${report.ops[early]?.op} must be the last op`,
      })
    }
    const last = report.ops.at(-1)
    if ((report.state === 'done') !== (last !== undefined && isEndOp(last))) {
      const message = 'must be "done" exactly when the last op is finish, fail, cancelled or continue_as_new'
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

/** Not a zod record, for the same reason as `match`. */
const paths = z.custom<{ [name: string]: string }>().superRefine((value, context) => {
  const problem = problemOfMatch(value)
  if (problem !== null) return void context.addIssue({ code: 'custom', ...problem })
  for (const [path, to] of Object.entries(value)) {
    const message = typeof to === 'string' ? problemOfName(to, LIMITS.matchPathChars) : 'is no path'
    if (message !== null) context.addIssue({ code: 'custom', path: [path], message })
  }
})

const functionDescription = z.object({
  id: functionId,
  version: count.exactOptional(),
  olderVersions: z.array(count).max(LIMITS.versionsPerFunction).exactOptional(),
  triggers: z.array(trigger),
  timeouts: z.object({ startMs: durationMs.exactOptional(), finishMs: durationMs.exactOptional() }).exactOptional(),
  cancelOn: z
    .array(z.object({ event: name(LIMITS.eventNameChars), match: paths.exactOptional() }))
    .max(LIMITS.cancelRules)
    .exactOptional(),
  onFailure: functionId.exactOptional(),
  onCancel: functionId.exactOptional(),
  tags: paths.exactOptional(),
})

/** The app's answer: ids are unique. */
export const descriptionSchema = z.object({
  kind: z.literal('description'),
  sdk: name(LIMITS.sdkChars),
  functions: z.array(functionDescription).superRefine((functions, context) => {
    const seen = new Set<string>()
    functions.forEach(({ id }, at) => {
      if (seen.has(id)) context.addIssue({ code: 'custom', path: [at, 'id'], message: `"${id}" is here twice` })
      seen.add(id)
    })
  }),
})

/** App to engine, `POST /v1/sync`. */
export const syncRequestSchema = z.object({ url: httpUrl, functions: z.array(functionId).exactOptional() })
