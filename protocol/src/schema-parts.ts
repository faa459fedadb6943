/** What the schemas are made of: names, instants, counts, and customers' JSON. */
import * as z from 'zod'
import type { WireError } from './error.ts'
import { isInstant } from './instant.ts'
import type { Match } from './journal.ts'
import type { Json } from './json.ts'
import { LIMITS } from './limits.ts'
import { problemOfMatch } from './match.ts'
import { problemOfName } from './name.ts'
import { UNDO_PREFIX } from './step-key.ts'
import { readWireError } from './wire-error.ts'

/** Counters are 32 bit columns in the store: one larger number must not spoil a batch. */
const MAX_COUNT = 2 ** 31 - 1
/** A key is an id, and `#` and the number of the use when that is not the first; the one of an undo has a prefix. */
const KEY_CHARS = UNDO_PREFIX.length + LIMITS.stepIdChars + 1 + String(LIMITS.stepsPerRun).length

export const json = z.custom<Json>(value => value !== undefined, 'is missing')
export const textWith = (problemOf: (text: string) => string | null, missing?: string) =>
  z.string({ error: issue => (issue.input === undefined ? missing : undefined) }).superRefine((text, context) => {
    const message = problemOf(text)
    if (message !== null) context.addIssue({ code: 'custom', message })
  })
export const name = (maxChars: number, missing?: string) => textWith(text => problemOfName(text, maxChars), missing)
export const instant = textWith(text =>
  isInstant(text) ? null : 'is not an ISO 8601 time with a zone (2026-01-31T12:00:00Z)',
)
export const httpUrl = textWith(text => (isHttpUrl(text) ? null : 'is not an absolute http or https URL'))
export const count = z.int().min(1).max(MAX_COUNT)
export const durationMs = z.number().min(0).max(LIMITS.durationMs)
export const key = name(KEY_CHARS)
export const asked = { key, saw: count }
export const functionId = z
  .string()
  .regex(/^[A-Za-z0-9._-]+$/, 'may hold letters, digits, ".", "_" and "-" only')
  .max(LIMITS.functionIdChars)

/** `charge`, or `billing/charge`: another app's. */
export const invokedId = z
  .string()
  .regex(
    /^([A-Za-z0-9._-]{1,127}\/)?[A-Za-z0-9._-]{1,128}$/,
    'is no id of a function: letters, digits, ".", "_", "-", after an app and "/"',
  )
  .max(LIMITS.workspaceChars + LIMITS.functionIdChars)

/** Not a zod record: that drops a path named `__proto__`, and the wait would match more than was asked for. */
export const match = z.custom<Match>().superRefine((value, context) => {
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

export const event = z.object({
  id: name(LIMITS.eventIdChars),
  name: name(LIMITS.eventNameChars),
  data: json,
  ts: instant,
})

export const attempt = z.int().min(1).max(LIMITS.maxAttempts)
export const runId = name(LIMITS.runIdChars)

function isHttpUrl(text: string): boolean {
  return text.length <= LIMITS.urlChars && /^https?:\/\//i.test(text) && URL.canParse(text)
}
