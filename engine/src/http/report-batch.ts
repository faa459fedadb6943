/*
 * A batch of reports, read and checked, wherever it comes from: a request, or a frame of a stream.
 */
import { type AckBatch, HEADERS, LIMITS, type ReportBatch } from '@stepwell/protocol'
import { firstProblems, reportBatchSchema } from '@stepwell/protocol/schemas'
import type { Catalog } from '../core/catalog.ts'
import { EngineError } from '../core/errors.ts'
import { isObject } from '../core/is-object.ts'
import { isPlainReport } from '../core/plain-report.ts'
import type { HttpEngine } from './context.ts'
import { invalidBody, parseJson } from './raw-body.ts'

/** Takes the reports in a body that was verified for the workspace; resolves after their commit. Throws EngineErrors. */
export function takeReportBatch(
  engine: Pick<HttpEngine, 'takeReports'>,
  catalog: Catalog,
  body: Buffer,
): Promise<AckBatch> {
  const batch = readReportBatch(body)
  if (batch.workspace !== catalog.name) {
    throw new EngineError(
      'signature_invalid',
      401,
      `The body is about another workspace than the ${HEADERS.workspace} header (${catalog.name}). Send both from the same turn.`,
    )
  }
  return engine.takeReports(catalog, batch)
}

function readReportBatch(body: Buffer): ReportBatch {
  const json = parseJson(body)
  if (isPlainBatch(json)) return json
  const parsed = reportBatchSchema.safeParse(json)
  if (!parsed.success) throw invalidBody('a batch of reports', firstProblems(parsed.error))
  return parsed.data as ReportBatch
}

/** Whether it is made of plain reports only, so that there is nothing that the schema would find. */
export function isPlainBatch(json: unknown): json is ReportBatch {
  if (!isObject(json) || json.kind !== 'reports') return false
  if (typeof json.workspace !== 'string' || !PLAIN_WORKSPACE.test(json.workspace)) return false
  if (!Array.isArray(json.reports)) return false
  const reports: unknown[] = json.reports
  return reports.length > 0 && reports.length <= LIMITS.reportsPerBatch && reports.every(isPlainReport)
}

const PLAIN_WORKSPACE = /^[A-Za-z0-9_.:#/-]{1,256}$/
