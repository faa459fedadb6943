import { firstProblems } from '@stepwell/protocol/schemas'
import { z } from 'zod'
import { EngineError } from '../core/errors.ts'
import type { HttpContext } from './context.ts'

const none = z.strictObject({})

/** The query's parameters by `schema`. Throws `query_invalid`, also for a parameter that comes twice. */
export function readQuery<T>(c: HttpContext, schema: z.ZodType<T>): T {
  const given: Record<string, string> = Object.create(null)
  const repeated: string[] = []
  for (const [name, value] of new URL(c.req.url).searchParams) {
    if (name in given) repeated.push(name)
    given[name] = value
  }
  // A copy: zod refuses objects without a prototype.
  const parsed = schema.safeParse({ ...given })
  const errors = [
    ...repeated.map(name => ({ path: name, message: 'comes more than once' })),
    ...(parsed.success ? [] : firstProblems(parsed.error)),
  ]
  if (parsed.success && errors.length === 0) return parsed.data
  const [first] = errors
  const said =
    first === undefined ? '' : first.path === '' ? ` ${first.message}.` : ` "${first.path}" ${first.message}.`
  throw new EngineError('query_invalid', 400, `The query is not valid.${said} See "errors".`, { errors })
}

/** For routes that take no parameters. */
export function refuseQuery(c: HttpContext): void {
  if (c.req.url.includes('?')) readQuery(c, none)
}
