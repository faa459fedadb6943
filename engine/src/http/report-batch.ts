/*
 * A batch of reports, read and checked, wherever it comes from: a request, or a frame of a stream.
 */
import { type AckBatch, HEADERS, LIMITS, type ReportBatch } from '@stepwell/protocol'
import { firstProblems, reportBatchSchema } from '@stepwell/protocol/schemas'
import type { Catalog } from '../core/catalog.ts'
import { EngineError } from '../core/errors.ts'
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

/**
 * Whether it is made of nothing but what most reports are: turns that run, and steps that have succeeded. The schema
 * accepts all of that as it is, and takes ten times as long to find out. Anything else, right or wrong, is left to it.
 */
export function isPlainBatch(json: unknown): json is ReportBatch {
  if (!isObject(json) || json.kind !== 'reports' || typeof json.workspace !== 'string') return false
  if (!Array.isArray(json.reports)) return false
  const reports: unknown[] = json.reports
  return reports.length > 0 && reports.length <= LIMITS.reportsPerBatch && reports.every(isPlainReport)
}

function isPlainReport(report: unknown): boolean {
  if (!isObject(report) || report.kind !== 'report' || report.state !== 'running' || 'error' in report) return false
  const { run, generation, turn, epoch, n, replayMs, ops } = report
  if (!isPlainName(run) || !isPlainName(epoch) || !isCount(generation) || !isCount(turn) || !isCount(n)) return false
  if ('replayMs' in report && !isDuration(replayMs)) return false
  return Array.isArray(ops) && ops.length <= LIMITS.opsPerReport && ops.every(isPlainStep)
}

function isPlainStep(op: unknown): boolean {
  if (!isObject(op) || op.op !== 'step' || 'error' in op || 'retry' in op) return false
  const { key, saw, attempt, startedMs, durationMs } = op
  if (!isPlainName(key) || !isCount(saw) || !isCount(attempt) || attempt > LIMITS.maxAttempts) return false
  if ('startedMs' in op && !isDuration(startedMs)) return false
  return !('durationMs' in op) || isDuration(durationMs)
}

const PLAIN_NAME = /^[A-Za-z0-9_.:#-]{1,128}$/
const MAX_COUNT = 2 ** 31 - 1

function isPlainName(value: unknown): boolean {
  return typeof value === 'string' && PLAIN_NAME.test(value)
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_COUNT
}

function isDuration(value: unknown): boolean {
  return typeof value === 'number' && value >= 0 && value <= LIMITS.durationMs
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
