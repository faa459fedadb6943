/*
 * Reports that come while turns run. Each goes to the run it is about, if this process holds that run under that epoch;
 * all of one POST are committed together with whatever else is under way, and each is acknowledged after its commit.
 */
import { type Ack, type AckBatch, decodeId, type Entry, type Report, type ReportBatch } from '@stepwell/protocol'
import type { Catalog } from '../core/catalog.ts'
import type { RunId, Token, WorkerId } from '../core/ids.ts'
import type { Sql } from '../store/db.ts'
import { findHolder } from '../store/queue.ts'
import type { AdvanceRun, NewEntry } from './advance-runs.ts'
import type { HeldRun, HeldRuns } from './held-runs.ts'

export interface TakeReportsDeps {
  sql: Sql
  held: HeldRuns
  worker: WorkerId
  advanceRun: AdvanceRun
  /** The engine is about to stop: turns should settle soon. */
  isDraining: () => boolean
}

/** `acks[i]` answers `reports[i]`. */
export async function takeReports(deps: TakeReportsDeps, catalog: Catalog, batch: ReportBatch): Promise<AckBatch> {
  return { kind: 'acks', acks: await Promise.all(batch.reports.map(report => takeReport(deps, catalog, report))) }
}

async function takeReport(deps: TakeReportsDeps, catalog: Catalog, report: Report): Promise<Ack> {
  const runId = decodeId('run', report.run) as RunId | null
  const run = runId === null ? null : deps.held.find(runId, report.epoch)
  if (run === null || run.ws !== catalog.ws) return refuse(deps, catalog, report, runId)
  if (report.generation !== run.snapshot.generation || report.turn !== run.turn)
    return malformed(
      report,
      `It is about turn ${report.turn} of generation ${report.generation}; the turn is ${run.turn} of ${run.snapshot.generation}.`,
    )
  if (report.state !== 'running')
    return malformed(
      report,
      `It says "${report.state}": a turn is settled by its response, reports are about turns that run.`,
    )
  run.lastSignAtMonotonicMs = performance.now()
  if (run.last !== null && report.n === run.last.n) return run.last.ack
  const expected = (run.last?.n ?? 0) + 1
  if (report.n !== expected) return malformed(report, `Report ${expected} was expected, this is report ${report.n}.`)

  const before = run.last?.ack ?? null
  const ack = (async () => {
    // One at a time per run: memory moves on before the next report is decided.
    await before?.catch(() => {})
    return apply(deps, run, report)
  })()
  run.last = { n: report.n, ack }
  return ack
}

async function apply(deps: TakeReportsDeps, run: HeldRun, report: Report): Promise<Ack> {
  if (report.replayMs !== undefined) run.replayMs = report.replayMs
  const result = await deps.advanceRun(run, { kind: 'report', report, isResponse: false })
  if (result.status === 'stale') return stale(report)
  if (result.status === 'refused') return malformed(report, result.message)
  const own = new Set(report.ops.flatMap(op => (op.op === 'step' ? [op.key] : [])))
  const at = new Date(result.nowMs).toISOString()
  const entries = result.entries.map(entry => ackEntry(entry, run.turn, at, own))
  return { run: report.run, n: report.n, status: 200, entries, ...(deps.isDraining() ? { yield: true as const } : {}) }
}

/** The app has the outputs that it sent itself. */
function ackEntry(entry: NewEntry, turn: number, at: string, own: Set<string>): Entry {
  const { seq, type, key, saw, data } = entry
  const withoutData = data === null || (type === 'step_completed' && key !== null && own.has(key))
  const view = {
    seq,
    turn,
    at,
    type,
    ...(key === null ? {} : { key }),
    ...(saw === null ? {} : { saw }),
    ...(withoutData ? {} : { data: JSON.parse(data) }),
  }
  // Every entry here was made by decide or by the database in the shape of its type.
  return view as unknown as Entry
}

/** 421 when another process holds the run under that epoch, else 409. */
async function refuse(deps: TakeReportsDeps, catalog: Catalog, report: Report, runId: RunId | null): Promise<Ack> {
  if (runId === null || !/^\d{1,19}$/.test(report.epoch)) return stale(report)
  const holder = await findHolder(deps.sql, catalog.ws, runId, report.epoch as Token)
  if (holder === null || holder === deps.worker) return stale(report)
  const message = 'Another engine process holds this run. Settle the turn by its response.'
  return { run: report.run, n: report.n, status: 421, code: 'not_holder', message }
}

function stale(report: Report): Ack {
  const message = `The epoch of run ${report.run} is over: another turn has begun or will begin. Nothing was written; stop this turn.`
  return { run: report.run, n: report.n, status: 409, code: 'stale_epoch', message }
}

function malformed(report: Report, message: string): Ack {
  return { run: report.run, n: report.n, status: 422, code: 'body_invalid', message }
}
