import { decodeId, LIMITS, type NewEvent, type SendEventsAnswer } from '@stepwell/protocol'
import { eventsBodySchema, firstProblems, newEventSchema } from '@stepwell/protocol/schemas'
import { z } from 'zod'
import { EngineError } from '../core/errors.ts'
import type { RunId, WorkspaceId } from '../core/ids.ts'
import { answer } from './answer.ts'
import type { HttpApp, HttpOptions } from './context.ts'
import { unknownMembers } from './event-members.ts'
import { readQuery, waitParameter } from './query.ts'
import { invalidBody, parseJson } from './raw-body.ts'
import { addRoute, gives, takes } from './route.ts'
import { sentView } from './views.ts'

const PROBLEMS_MAX = 10
/** Of one request. Each that runs elsewhere is looked for in the database now and then. */
const AWAITED_RUNS_MAX = 100

const one = z.strictObject(newEventSchema.shape)
const many = z.array(one).max(LIMITS.eventsPerCall)

/** `wait`: answer when the runs that the events start have ended. */
export const eventsQuery = z.strictObject({ wait: waitParameter })

const route = {
  method: 'post',
  path: '/v1/events',
  operationId: 'sendEvents',
  summary: 'Accept events and start what they start',
  request: { query: eventsQuery, ...takes(z.union([one, many, z.object({ events: many })])) },
  responses: gives(202, 'Stored, in the order of the request, with the runs that each started', sentView),
} as const

/** `POST /v1/events`: accepts events and starts what they start. Answers after the commit. */
export function addEvents(app: HttpApp, { engine }: Pick<HttpOptions, 'engine'>): void {
  addRoute(app, route, async c => {
    // Most requests have no query, and reading one makes a URL of it.
    const wait = c.req.url.includes('?') ? readQuery(c, eventsQuery).wait : undefined
    const body = c.get('body')
    const json = parseJson(body)
    refuseTooMany(json)
    const parsed = eventsBodySchema.safeParse(json)
    const problems = [...(parsed.success ? [] : firstProblems(parsed.error)), ...unknownMembers(json, PROBLEMS_MAX)]
    if (!parsed.success || problems.length > 0)
      throw invalidBody('one event, an array of events or { "events": [...] }', problems.slice(0, PROBLEMS_MAX))
    const { events } = parsed.data
    // No event of a small body is large.
    if (body.length > LIMITS.eventBytes) refuseTooLarge(events)
    const { ws } = c.get('catalog')
    const sent = await engine.sendEvents(ws, events)
    return answer(c, 202, wait === undefined ? sent : await withEnds(engine, ws, sent, wait))
  })
}

/** The answer with the runs as they have ended, or as they are when the time is up; without those beyond the limit. */
async function withEnds(
  engine: Pick<HttpOptions['engine'], 'awaitRun'>,
  ws: WorkspaceId,
  { events }: SendEventsAnswer,
  waitMs: number,
): Promise<SendEventsAnswer> {
  let awaited = 0
  const awaitEnd = async (id: string) => {
    awaited += 1
    if (awaited > AWAITED_RUNS_MAX) return null
    // The events are stored, whatever becomes of the waiting: that must not be told as a failure.
    return engine.awaitRun(ws, decodeId('run', id) as RunId, waitMs).catch(() => null)
  }
  return {
    events: await Promise.all(
      events.map(async event => {
        const ended = await Promise.all(event.runs.map(awaitEnd))
        return { ...event, ended: ended.filter(run => run !== null) }
      }),
    ),
  }
}

function refuseTooMany(json: unknown): void {
  const list = typeof json === 'object' && json !== null && 'events' in json ? json.events : json
  if (!Array.isArray(list) || list.length <= LIMITS.eventsPerCall) return
  throw new EngineError(
    'too_many_events',
    400,
    `The body holds ${list.length} events; ${LIMITS.eventsPerCall} are the most. Send them in several calls.`,
    { limit: LIMITS.eventsPerCall },
  )
}

function refuseTooLarge(events: NewEvent[]): void {
  for (const [index, event] of events.entries()) {
    const sizeBytes = Buffer.byteLength(JSON.stringify(event.data ?? {}))
    if (sizeBytes <= LIMITS.eventBytes) continue
    throw new EngineError(
      'event_too_large',
      413,
      `Event ${index + 1} ("${event.name}") has ${sizeBytes} bytes of data; ${LIMITS.eventBytes} are the most. Store the data elsewhere and send where it is.`,
      { errors: [{ path: `[${index}].data`, message: `has ${sizeBytes} bytes` }], limitBytes: LIMITS.eventBytes },
    )
  }
}
