import { decodeId, type JournalView, LIMITS, RUN_STATES, type RunList } from '@stepwell/protocol'
import { cancelBodySchema, firstProblems, newSignalSchema } from '@stepwell/protocol/schemas'
import { z } from 'zod'
import { EngineError } from '../core/errors.ts'
import type { RunId } from '../core/ids.ts'
import { findRun, listRuns, readJournal } from '../store/runs.ts'
import { answer } from './answer.ts'
import type { HttpApp, HttpOptions } from './context.ts'
import { readQuery, waitParameter } from './query.ts'
import { invalidBody, parseJson } from './raw-body.ts'
import { addRoute, gives, takes } from './route.ts'
import { cancelView, journalView, runListView, runView, signalView } from './views.ts'

const RUNS_MAX = 200
const RUNS_DEFAULT = 50
const ENTRIES_MAX = 1_000
const ENTRIES_DEFAULT = 200
const SEQ_MAX = 2 ** 31 - 1
const SHOWN_CHARS = 100

const integer = (min: number, max: number) =>
  z
    .string()
    .regex(/^[0-9]{1,10}$/, `is not a whole number from ${min} to ${max}`)
    .transform(Number)
    .pipe(z.int().min(min, `is less than ${min}`).max(max, `is more than ${max}`))

export const runsQuery = z.strictObject({
  state: z.enum(RUN_STATES, `is none of ${RUN_STATES.join(', ')}`).optional(),
  function: z
    .string()
    .regex(/^[A-Za-z0-9._-]+$/, 'is no id of a function')
    .max(LIMITS.functionIdChars)
    .optional(),
  /** `name:value`, cut at the first colon. */
  tag: z
    .string()
    .max(LIMITS.tagNameChars + 1 + LIMITS.tagValueChars)
    .regex(/^[^:]+:.+$/s, 'is no tag: name:value, as in customer:c_1')
    .transform(tag => ({ name: tag.slice(0, tag.indexOf(':')), value: tag.slice(tag.indexOf(':') + 1) }))
    .optional(),
  limit: integer(1, RUNS_MAX).default(RUNS_DEFAULT),
  cursor: z.string().optional(),
})

export const journalQuery = z.strictObject({
  after: integer(0, SEQ_MAX).default(0),
  limit: integer(1, ENTRIES_MAX).default(ENTRIES_DEFAULT),
})

export const runQuery = z.strictObject({ wait: waitParameter })

export const runParams = z.object({ id: z.string() })

const listRoute = {
  method: 'get',
  path: '/v1/runs',
  operationId: 'listRuns',
  summary: 'Runs, newest first',
  request: { query: runsQuery },
  responses: gives(200, 'A page; "next" is the cursor of the next one', runListView),
} as const

const runRoute = {
  method: 'get',
  path: '/v1/runs/{id}',
  operationId: 'getRun',
  summary: 'One run as it is now, or (wait) when it has ended',
  request: { params: runParams, query: runQuery },
  responses: gives(200, 'The run', runView),
} as const

const journalRoute = {
  method: 'get',
  path: '/v1/runs/{id}/journal',
  operationId: 'getJournal',
  summary: 'Everything that reached a run, in order',
  request: { params: runParams, query: journalQuery },
  responses: gives(200, 'A page; pass "next" as "after" for the next one', journalView),
} as const

const signalRoute = {
  method: 'post',
  path: '/v1/runs/{id}/signals',
  operationId: 'signalRun',
  summary: 'A message to one run, kept until the run receives it',
  request: { params: runParams, ...takes(z.strictObject(newSignalSchema.shape)) },
  responses: gives(202, 'Stored', signalView),
} as const

const cancelRoute = {
  method: 'post',
  path: '/v1/runs/{id}/cancel',
  operationId: 'cancelRun',
  summary: 'Ask a run, and the children that end with it, to end',
  request: { params: runParams, ...takes(z.strictObject(cancelBodySchema.shape)) },
  responses: gives(202, 'It is asked; the state is that of now', cancelView),
} as const

/** `GET /v1/runs`, one run, its journal, and what can be done to it. */
export function addRuns(app: HttpApp, { engine }: Pick<HttpOptions, 'engine'>): void {
  const sql = engine.pools.read

  addRoute(app, listRoute, async c => {
    const query = readQuery(c, runsQuery)
    const runs = await listRuns(sql, {
      ws: c.get('catalog').ws,
      // One more than asked for tells whether there is another page.
      limit: query.limit + 1,
      before: query.cursor === undefined ? null : readCursor(query.cursor),
      state: query.state ?? null,
      function: query.function ?? null,
      tag: query.tag ?? null,
    })
    const page = runs.slice(0, query.limit)
    const list: RunList = { runs: page, next: runs.length > page.length ? (page.at(-1)?.id ?? null) : null }
    return answer(c, 200, list)
  })

  addRoute(app, runRoute, async c => {
    const { wait } = readQuery(c, runQuery)
    const { runId, id } = readRunId(c)
    const { ws } = c.get('catalog')
    const run = runId === null ? null : await (wait ? engine.awaitRun(ws, runId, wait) : findRun(sql, ws, runId))
    if (run === null) throw runNotFound(id, c.get('catalog').name)
    return answer(c, 200, run)
  })

  addRoute(app, signalRoute, async c => {
    const body = c.get('body')
    const parsed = newSignalSchema.strict().safeParse(parseJson(body))
    if (!parsed.success) throw invalidBody('a signal: { "name": "approve", "data": … }', firstProblems(parsed.error))
    if (body.length > LIMITS.eventBytes)
      throw new EngineError(
        'event_too_large',
        413,
        `The signal has ${body.length} bytes; ${LIMITS.eventBytes} are the most. Store the data elsewhere and send where it is.`,
      )
    const { runId, id } = readRunId(c)
    const { ws, name } = c.get('catalog')
    if (runId === null) throw runNotFound(id, name)
    const sent = engine.sendMessage(ws, runId, parsed.data).catch(async error => {
      const isGone = error instanceof EngineError && error.code === 'run_ended'
      throw isGone && (await findRun(sql, ws, runId)) === null ? runNotFound(id, name) : error
    })
    return answer(c, 202, await sent)
  })

  addRoute(app, cancelRoute, async c => {
    const body = c.get('body')
    const parsed = cancelBodySchema.strict().safeParse(body.length === 0 ? {} : parseJson(body))
    if (!parsed.success) throw invalidBody('{ "reason": "…" }, or nothing', firstProblems(parsed.error))
    const { runId, id } = readRunId(c)
    const { ws, name } = c.get('catalog')
    const message = parsed.data.reason ?? 'Somebody asked for it.'
    const cancelled = runId === null ? null : await engine.cancelRun(ws, runId, message)
    if (cancelled === null) throw runNotFound(id, name)
    return answer(c, 202, cancelled)
  })

  addRoute(app, journalRoute, async c => {
    const { after, limit } = readQuery(c, journalQuery)
    const { runId, id } = readRunId(c)
    const { ws, name } = c.get('catalog')
    const journal = runId === null ? null : await readJournal(sql, { ws, runId, after, limit: limit + 1 })
    if (journal === null) throw runNotFound(id, name)
    const entries = journal.entries.slice(0, limit)
    const next = journal.entries.length > entries.length ? (entries.at(-1)?.seq ?? null) : null
    const view: JournalView = { run: id.toLowerCase(), generation: journal.generation, entries, next }
    return answer(c, 200, view)
  })
}

/** The id in the path; null when it cannot be one. */
export function readRunId(c: { req: { param: (name: 'id') => string | undefined } }): {
  id: string
  runId: RunId | null
} {
  const id = c.req.param('id') ?? ''
  return { id, runId: decodeId('run', id) as RunId | null }
}

/** A cursor is the id of the last run of a page. */
function readCursor(cursor: string): string {
  const before = decodeId('run', cursor)
  if (before !== null) return before
  const message = 'is not the "next" of an earlier page'
  throw new EngineError('query_invalid', 400, `The query is not valid. "cursor" ${message}. See "errors".`, {
    errors: [{ path: 'cursor', message }],
  })
}

export function runNotFound(id: string, workspace: string): EngineError {
  const shown = JSON.stringify(id.slice(0, SHOWN_CHARS))
  return new EngineError(
    'run_not_found',
    404,
    `Workspace ${workspace} has no run ${shown}. Check the id and the workspace.`,
  )
}
