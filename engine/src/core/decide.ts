/*
 * The heart. A run moves because something happened to it; what then has to be written is decided here and nowhere
 * else: pure, no I/O, no clock, no dice. A feature is a new op, a new happening or a new change, one `case` in each
 * switch.
 *
 * A decision is a list of changes that ends with exactly one `settle`. The store writes the list in one transaction,
 * fenced by the run's token, or not at all.
 */

import {
  type ErrorCode,
  type Json,
  LIMITS,
  type Op,
  type Report,
  type SleepOp,
  type StepOp,
  type WireError,
} from '@stepwell/protocol'
import { assertNever } from './assert-never.ts'
import { byteLength } from './byte-length.ts'
import type { Change, RecordChange, SettleChange } from './change.ts'
import { runFailure } from './errors.ts'
import type { Happening } from './happening.ts'
import { resendDelayMs, retryDelayMs } from './retry.ts'
import { sentEventId } from './sent-event-id.ts'
import { hasOpenKey, type Snapshot } from './snapshot.ts'

/** What to write because `happening` happened to the leased run that `snapshot` describes. Never throws. */
export function decide(snapshot: Snapshot, happening: Happening, dice: () => number): Change[] {
  switch (happening.kind) {
    case 'report':
      return decideReport(snapshot, happening.report, dice)
    case 'over_limit':
      return [failed(happening.error)]
    case 'no_answer':
      return [resend(snapshot, happening.code, happening.message, happening.dice)]
    default:
      return assertNever(happening)
  }
}

function decideReport(snapshot: Snapshot, report: Report, dice: () => number): Change[] {
  if (report.state === 'refused') {
    const error = report.error
    return [resend(snapshot, 'turn_refused', error?.message ?? 'The app refused the turn without a reason.', dice())]
  }
  const changes: Change[] = []
  const asked = new Set<string>()
  for (const op of report.ops) {
    if (op.op === 'finish' || op.op === 'fail') return [...changes, endOf(op)]
    if (asked.has(op.key)) continue
    asked.add(op.key)
    changes.push(...decideOp(snapshot, op, dice))
  }
  const tooMuch = limitFailure(snapshot, changes)
  if (tooMuch !== null) return [failed(tooMuch)]
  return [...changes, settleOf(snapshot, report, changes, dice)]
}

/** One op becomes its journal line and what it opens. An op that the journal knows already becomes nothing. */
function decideOp(snapshot: Snapshot, op: Exclude<Op, { op: 'finish' | 'fail' }>, dice: () => number): Change[] {
  const known = snapshot.keys.get(op.key)
  switch (op.op) {
    case 'step':
      if (known !== undefined && (known.kind !== 'step' || known.state === 'settled' || op.attempt <= known.attempts))
        return []
      return decideStep(snapshot, op, known?.attempts ?? 0, dice)
    case 'sleep': {
      if (known !== undefined) return []
      const dueAtMs = sleepUntilMs(snapshot.nowMs, op)
      const data = JSON.stringify({ until: new Date(dueAtMs).toISOString() })
      return [record('sleep_started', op, false, data), { kind: 'open_wait', wait: 'sleep', key: op.key, dueAtMs }]
    }
    case 'wait': {
      if (known !== undefined) return []
      const dueAtMs = op.timeoutMs === undefined ? null : snapshot.nowMs + op.timeoutMs
      // members that are undefined are not written
      const expiresAt = dueAtMs === null ? undefined : new Date(dueAtMs).toISOString()
      const data = JSON.stringify({ event: op.event, match: op.match, expiresAt })
      return [
        record('wait_opened', op, false, data),
        { kind: 'open_wait', wait: 'event', key: op.key, dueAtMs, event: op.event, match: op.match ?? {} },
      ]
    }
    case 'send': {
      if (known !== undefined) return []
      // An id from the run, its generation and the key: sent again after a crash it is still the same event.
      const events = op.events.map((event, index) => ({
        ...event,
        id: event.id ?? sentEventId(snapshot, op.key, index),
      }))
      return [
        { kind: 'send_events', key: op.key, events },
        record('events_sent', op, true, JSON.stringify({ ids: events.map(event => event.id) })),
      ]
    }
    default:
      return assertNever(op)
  }
}

function decideStep(snapshot: Snapshot, op: StepOp, earlierAttempts: number, dice: () => number): Change[] {
  const times = { startedMs: op.startedMs, durationMs: op.durationMs }
  const attempt = earlierAttempts + 1
  if (op.error === undefined) {
    const output = jsonText(op.output)
    if (byteLength(output) <= LIMITS.stepOutputBytes)
      return [{ ...record('step_completed', op, true, output), ...times }]
    const message = `The output of step "${op.key}" is larger than ${LIMITS.stepOutputBytes} bytes. Store it elsewhere and return where.`
    const error = runFailure('step_output_too_large', message)
    return [{ ...record('step_failed', op, true, JSON.stringify({ error, attempt })), ...times }]
  }
  const delayMs = retryDelayMs(op.retry, attempt, dice())
  if (delayMs === null)
    return [{ ...record('step_failed', op, true, JSON.stringify({ error: op.error, attempt })), ...times }]
  const dueAtMs = snapshot.nowMs + delayMs
  const data = JSON.stringify({ error: op.error, attempt, dueAt: new Date(dueAtMs).toISOString() })
  return [
    { ...record('step_retrying', op, false, data), ...times },
    { kind: 'open_wait', wait: 'retry', key: op.key, dueAtMs },
  ]
}

function record(
  type: RecordChange['type'],
  op: { key: string; saw: number },
  settles: boolean,
  data: RecordChange['data'],
): RecordChange {
  return { kind: 'record', type, key: op.key, saw: op.saw, settles, data }
}

function sleepUntilMs(nowMs: number, op: SleepOp): number {
  // What has passed of it since it was asked for is over.
  const leftMs = Math.max(0, (op.ms ?? 0) - (op.ageMs ?? 0))
  const untilMs = op.until === undefined ? nowMs + leftMs : Date.parse(op.until)
  return Math.min(untilMs, nowMs + LIMITS.durationMs)
}

/** How the turn goes on after its ops. What an app says about waiting is believed only when something is open. */
function settleOf(snapshot: Snapshot, report: Report, changes: Change[], dice: () => number): SettleChange {
  switch (report.state) {
    case 'running':
      return { kind: 'settle', step: 'running' }
    case 'continue':
      return { kind: 'settle', step: 'continue' }
    case 'waiting':
      if (hasOpenKey(snapshot) || changes.some(change => change.kind === 'open_wait'))
        return { kind: 'settle', step: 'waiting' }
      // What the handler waited for may have been settled by this very report, or have arrived just now.
      if (changes.length > 0) return { kind: 'settle', step: 'continue' }
      return resend(
        snapshot,
        'handler_stalled',
        'The app says that it waits, but nothing that it asked for is open.',
        dice(),
      )
    case 'done':
    case 'refused':
      return resend(snapshot, 'app_body_invalid', `A report with state "${report.state}" ended without its op.`, dice())
    default:
      return assertNever(report.state)
  }
}

function endOf(op: Extract<Op, { op: 'finish' | 'fail' }>): SettleChange {
  if (op.op === 'fail') return failed(op.error)
  return { kind: 'settle', step: 'done', state: 'completed', output: jsonText(op.output), error: null }
}

function failed(error: WireError): SettleChange {
  return { kind: 'settle', step: 'done', state: 'failed', output: null, error: JSON.stringify(error) }
}

function jsonText(value: Json | undefined): string | null {
  return value === undefined ? null : JSON.stringify(value)
}

/** The error of a run that would hold more than a run may, with these changes; null when it is fine. */
export function limitFailure(snapshot: Snapshot, changes: Change[]): WireError | null {
  let bytes = snapshot.journalBytes
  let keys = snapshot.keys.size
  for (const change of changes) {
    if (change.kind !== 'record') continue
    bytes += byteLength(change.data)
    if (!snapshot.keys.has(change.key)) keys += 1
  }
  if (keys > LIMITS.stepsPerRun)
    return runFailure('too_many_steps', `The run asked for more than ${LIMITS.stepsPerRun} steps.`)
  if (bytes > LIMITS.journalBytes)
    return runFailure('journal_too_large', `The run's journal is larger than ${LIMITS.journalBytes} bytes.`)
  return null
}

/** The same turn again, later. Nothing of this dispatch is recorded beyond what it reported before. */
function resend(snapshot: Snapshot, code: ErrorCode, message: string, dice: number): SettleChange {
  const attempts = (snapshot.trouble?.attempts ?? 0) + 1
  const since = snapshot.trouble?.since ?? new Date(snapshot.nowMs).toISOString()
  return {
    kind: 'settle',
    step: 'trouble',
    trouble: { code, message, attempts, since },
    resendMs: resendDelayMs(attempts, dice),
  }
}
