import type { AckBatch } from '@stepwell/protocol'
import { ackBatchSchema, reportBatchSchema } from '@stepwell/protocol/schemas'
import { answer } from './answer.ts'
import type { HttpApp, HttpOptions } from './context.ts'
import { refuseQuery } from './query.ts'
import { takeReportBatch } from './report-batch.ts'
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
    const acks = await takeReportBatch(engine, c.get('catalog'), c.get('body'))
    return answer(c, statusOf(acks), acks)
  })
}

/** SPEC.md 8.2: when every report was refused, the status is that of the first. */
function statusOf({ acks }: AckBatch): number {
  if (acks.some(ack => ack.status === 200)) return 200
  return acks[0]?.status ?? 200
}
