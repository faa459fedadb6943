import { type Duration, parseDuration } from '@stepwell/protocol'
import { z } from 'zod'
import { EngineError } from '../core/errors.ts'
import type { HttpContext } from './context.ts'

const PROBLEMS_MAX = 10
const SHOWN_CHARS = 100

const none = z.strictObject({})

const WAIT_MAX_MS = 60_000

/** A duration as text, such as `20s`: answer when what is asked about has ended, or when that long has passed. */
export const waitParameter = z
  .string()
  .transform((text, context) => {
    const ms = readDuration(text)
    if (ms !== null && ms <= WAIT_MAX_MS) return ms
    context.addIssue({ code: 'custom', message: 'is no duration from 0 to 60s, such as "20s"' })
    return z.NEVER
  })
  .optional()

function readDuration(text: string): number | null {
  try {
    // Text that is none throws.
    return parseDuration(text as Duration)
  } catch {
    return null
  }
}

/** The query's parameters by `schema`. Throws `query_invalid`, also for a parameter that comes twice and is not in `lists`. */
export function readQuery<T>(c: HttpContext, schema: z.ZodType<T>, lists: readonly string[] = []): T {
  const given: Record<string, string | string[]> = Object.create(null)
  const repeated: string[] = []
  for (const [name, value] of new URL(c.req.url).searchParams) {
    if (lists.includes(name)) continue
    if (name in given) repeated.push(name)
    given[name] = value
  }
  for (const name of lists) given[name] = new URL(c.req.url).searchParams.getAll(name)
  // A copy: zod refuses objects without a prototype.
  const parsed = schema.safeParse({ ...given })
  const errors = [
    ...repeated
      .slice(0, PROBLEMS_MAX)
      .map(name => ({ path: name.slice(0, SHOWN_CHARS), message: 'comes more than once' })),
    ...(parsed.success ? [] : parsed.error.issues.flatMap(problemsOf)),
  ]
  if (parsed.success && errors.length === 0) return parsed.data
  const [first] = errors
  const said =
    first === undefined ? '' : first.path === '' ? ` ${first.message}.` : ` "${first.path}" ${first.message}.`
  throw new EngineError('query_invalid', 400, `The query is not valid.${said} See "errors".`, { errors })
}

function problemsOf(issue: z.core.$ZodIssue): { path: string; message: string }[] {
  if (issue.code !== 'unrecognized_keys') return [{ path: issue.path.join('.'), message: issue.message }]
  const keys = issue.keys.slice(0, PROBLEMS_MAX)
  return keys.map(key => ({ path: key.slice(0, SHOWN_CHARS), message: 'is no parameter of this route' }))
}

/** For routes that take no parameters. */
export function refuseQuery(c: HttpContext): void {
  if (c.req.url.includes('?')) readQuery(c, none)
}
