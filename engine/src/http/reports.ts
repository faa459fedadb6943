import { type AckBatch, HEADERS, type ReportBatch } from '@stepwell/protocol'
import { ackBatchSchema, firstProblems, reportBatchSchema } from '@stepwell/protocol/schemas'
import { EngineError } from '../core/errors.ts'
import { answer } from './answer.ts'
import type { HttpApp, HttpOptions } from './context.ts'
import { refuseQuery } from './query.ts'
import { invalidBody, parseJson } from './raw-body.ts'
import { addRoute, gives, takes } from './route.ts'

const route = {
  method: 'post',
  path: '/v1/reports',
  operationId: 'takeReports',
  summary: 'What turns have done so far, of any turns of one workspace',
  request: takes(reportBatchSchema),
  responses: gives(200, 'Committed, or refused, report by report', ackBatchSchema),
} as const

/** `POST /v1/reports`: what apps record while their turns run. The hottest route. */
export function addReports(app: HttpApp, { engine }: Pick<HttpOptions, 'engine'>): void {
  addRoute(app, route, async c => {
    refuseQuery(c)
    const parsed = reportBatchSchema.safeParse(parseJson(c.get('body')))
    if (!parsed.success) throw invalidBody('a batch of reports', firstProblems(parsed.error))
    const catalog = c.get('catalog')
    if (parsed.data.workspace !== catalog.name) {
      throw new EngineError(
        'signature_invalid',
        401,
        `The body is about another workspace than the ${HEADERS.workspace} header (${catalog.name}). Send both from the same turn.`,
      )
    }
    const acks = await engine.takeReports(catalog, parsed.data as ReportBatch)
    return answer(c, statusOf(acks), acks)
  })
}

/** SPEC.md 8.2: when every report was refused, the status is that of the first. */
function statusOf({ acks }: AckBatch): number {
  if (acks.some(ack => ack.status === 200)) return 200
  return acks[0]?.status ?? 200
}
