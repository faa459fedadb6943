/*
 * The heart. A run moves because something happened to it; what then has to be written is decided here and nowhere
 * else: pure, no I/O, no clock, no dice. A feature is a new op, a new happening or a new change, one `case` in each
 * switch.
 *
 * A decision is a list of changes that ends with exactly one `settle`. The store writes the list in one transaction,
 * fenced by the run's token, or not at all.
 */

import {
  type CancelReason,
  type EndOp,
  type ErrorCode,
  isEndOp,
  LIMITS,
  type Report,
  type WireError,
} from '@stepwell/protocol'
import { assertNever } from './assert-never.ts'
import { byteLength } from './byte-length.ts'
import type { Change, SettleChange } from './change.ts'
import { type Chance, decideOp } from './decide-op.ts'
import { runFailure } from './errors.ts'
import type { Happening } from './happening.ts'
import { jsonText } from './json-text.ts'
import { resendDelayMs } from './retry.ts'
import { sentEventId } from './sent-event-id.ts'
import { hasOpenKey, type Snapshot } from './snapshot.ts'

/** What to write because `happening` happened to the leased run that `snapshot` describes. Never throws. */
export function decide(snapshot: Snapshot, happening: Happening, chance: Chance): Change[] {
  switch (happening.kind) {
    case 'report':
      return decideReport(snapshot, happening.report, chance)
    case 'over_limit':
      return [failed(happening.error)]
    case 'cancelled':
      return [cancelled(happening.reason)]
    case 'no_answer':
      return [resend(snapshot, happening.code, happening.message, happening.dice)]
    default:
      return assertNever(happening)
  }
}

function decideReport(snapshot: Snapshot, report: Report, chance: Chance): Change[] {
  const { dice } = chance
  if (report.state === 'refused') {
    const error = report.error
    return [resend(snapshot, 'turn_refused', error?.message ?? 'The app refused the turn without a reason.', dice())]
  }
  const changes: Change[] = saidOfItself(report)
  const asked = new Set<string>()
  for (const op of report.ops) {
    if (isEndOp(op)) return [...changes, endOf(snapshot, op, dice)]
    if (asked.has(op.key)) continue
    asked.add(op.key)
    changes.push(...decideOp(snapshot, op, chance))
  }
  const tooMuch = limitFailure(snapshot, changes)
  if (tooMuch !== null) return [failed(tooMuch)]
  return [...changes, settleOf(snapshot, report, changes, dice)]
}

/** What the handler says of its run, for whoever looks at it from outside. */
function saidOfItself(report: Report): Change[] {
  const changes: Change[] = []
  if (report.status !== undefined) changes.push({ kind: 'set_status', status: JSON.stringify(report.status) })
  if (report.tags !== undefined) changes.push({ kind: 'set_tags', tags: report.tags })
  return changes
}

/** The name of the event that the next generation of a run starts with. */
const CONTINUED = 'stepwell.continued'

/** How the turn goes on after its ops. What an app says about waiting is believed only when something is open. */
function settleOf(snapshot: Snapshot, report: Report, changes: Change[], dice: () => number): SettleChange {
  switch (report.state) {
    case 'running':
      return { kind: 'settle', step: 'running' }
    case 'continue':
      return { kind: 'settle', step: 'continue' }
    case 'waiting':
      // What the handler waits for may have been settled by this very report: a child that cannot be started, for one.
      if (changes.some(change => change.kind === 'record' && change.settles))
        return { kind: 'settle', step: 'continue' }
      if (hasOpenKey(snapshot) || changes.some(change => change.kind === 'open_wait'))
        return { kind: 'settle', step: 'waiting' }
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

function endOf(snapshot: Snapshot, op: EndOp, dice: () => number): SettleChange {
  switch (op.op) {
    case 'finish':
      return { kind: 'settle', step: 'done', state: 'completed', output: jsonText(op.output), error: null }
    case 'fail':
      return failed(op.error)
    case 'cancelled':
      if (snapshot.cancel !== null) return cancelled(snapshot.cancel)
      return resend(
        snapshot,
        'app_body_invalid',
        'The app says that the run is cancelled; nobody asked for that.',
        dice(),
      )
    case 'continue_as_new': {
      // The wish would be lost with the journal that holds it. Where something is to be undone the app gets a turn for that.
      if (snapshot.cancel !== null)
        return snapshot.wantsUndo ? { kind: 'settle', step: 'continue' } : cancelled(snapshot.cancel)
      const { input = {} } = op
      const id = sentEventId(snapshot, CONTINUED, 0)
      const event = { id, name: CONTINUED, data: input, ts: new Date(snapshot.nowMs).toISOString() }
      return { kind: 'settle', step: 'next_generation', event: JSON.stringify(event), unread: op.unread ?? [] }
    }
    default:
      return assertNever(op)
  }
}

function cancelled(reason: CancelReason): SettleChange {
  const error = JSON.stringify(runFailure('run_cancelled', reason.message))
  return { kind: 'settle', step: 'done', state: 'cancelled', output: null, error }
}

function failed(error: WireError): SettleChange {
  return { kind: 'settle', step: 'done', state: 'failed', output: null, error: JSON.stringify(error) }
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
