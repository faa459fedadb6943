/* Ops, one by one: which journal line each becomes, and what it opens or starts. */
import {
  type EndOp,
  encodeId,
  type InvokeOp,
  LIMITS,
  type Op,
  type RetryPolicy,
  type SleepOp,
  type StepOp,
  type WireError,
} from '@stepwell/protocol'
import { assertNever } from './assert-never.ts'
import { byteLength } from './byte-length.ts'
import type { Change, RecordChange } from './change.ts'
import { runFailure } from './errors.ts'
import { jsonText } from './json-text.ts'
import { retryDelayMs } from './retry.ts'
import { sentEventId } from './sent-event-id.ts'
import type { Snapshot } from './snapshot.ts'

/** What is not known beforehand, and comes from outside: decisions have no dice and make no ids. */
export interface Chance {
  /** From 0 to 1. */
  dice: () => number
  /** The id of a new run: a UUIDv7. */
  newUuid: () => string
}

/** One op becomes its journal line and what it opens. An op that the journal knows already becomes nothing. */
export function decideOp(snapshot: Snapshot, op: Exclude<Op, EndOp>, chance: Chance): Change[] {
  const known = snapshot.keys.get(op.key)
  switch (op.op) {
    case 'step':
      if (known !== undefined && (known.kind !== 'step' || known.state === 'settled' || op.attempt <= known.attempts))
        return []
      return decideStep(snapshot, op, known?.attempts ?? 0, chance.dice)
    case 'sleep': {
      if (known !== undefined) return []
      const dueAtMs = sleepUntilMs(snapshot.nowMs, op)
      const data = JSON.stringify({ until: new Date(dueAtMs).toISOString() })
      return [record('sleep_started', op, false, data), { kind: 'open_wait', wait: 'sleep', key: op.key, dueAtMs }]
    }
    case 'wait': {
      if (known !== undefined) return []
      const { dueAtMs, expiresAt } = timeoutOf(snapshot, op)
      // members that are undefined are not written
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
    case 'receive': {
      if (known !== undefined) return []
      const { dueAtMs, expiresAt } = timeoutOf(snapshot, op)
      return [
        record('signal_awaited', op, false, JSON.stringify({ signal: op.signal, expiresAt })),
        { kind: 'open_wait', wait: 'signal', key: op.key, dueAtMs, signal: op.signal },
      ]
    }
    case 'invoke':
      return known === undefined ? decideInvoke(snapshot, op, chance.newUuid()) : []
    case 'publish':
      if (known !== undefined) return []
      return [
        { kind: 'publish', channel: op.channel, data: JSON.stringify(op.data) },
        record('published', op, true, JSON.stringify({ channel: op.channel })),
      ]
    default:
      return assertNever(op)
  }
}

function timeoutOf(snapshot: Snapshot, op: { timeoutMs?: number }): { dueAtMs: number | null; expiresAt?: string } {
  if (op.timeoutMs === undefined) return { dueAtMs: null }
  const dueAtMs = snapshot.nowMs + op.timeoutMs
  return { dueAtMs, expiresAt: new Date(dueAtMs).toISOString() }
}

/** The child, and the wait for its end unless nobody waits. */
function decideInvoke(snapshot: Snapshot, op: InvokeOp, childId: string): Change[] {
  if (!snapshot.functions.has(op.function)) {
    const message = `There is no function "${op.function}" here. Serve it and sync its app, or check the name in step "${op.key}".`
    return [record('child_failed', op, true, JSON.stringify({ error: runFailure('function_not_found', message) }))]
  }
  const { dueAtMs, expiresAt } = timeoutOf(snapshot, op)
  const child = { run: encodeId('run', childId), function: op.function }
  const event = {
    id: sentEventId(snapshot, op.key, 0),
    name: INVOKED,
    data: op.data === undefined ? {} : op.data,
    ts: new Date(snapshot.nowMs).toISOString(),
  }
  const start: Change = {
    kind: 'start_run',
    runId: childId,
    function: op.function,
    event: JSON.stringify(event),
    key: op.detached === true ? null : op.key,
    isCancelledWith: op.onCancel !== 'abandon',
  }
  if (op.detached === true) return [record('child_detached', op, true, JSON.stringify(child)), start]
  return [
    record('child_started', op, false, JSON.stringify({ ...child, expiresAt })),
    { kind: 'open_wait', wait: 'child', key: op.key, dueAtMs, label: `${child.run} of ${op.function}` },
    start,
  ]
}

/** The name of the event that a child starts with. */
const INVOKED = 'stepwell.invoked'

function decideStep(snapshot: Snapshot, op: StepOp, earlierAttempts: number, dice: () => number): Change[] {
  const changes = recordStep(snapshot, op, earlierAttempts, dice)
  return op.undo === true && !snapshot.wantsUndo ? [...changes, { kind: 'want_undo' }] : changes
}

function recordStep(snapshot: Snapshot, op: StepOp, earlierAttempts: number, dice: () => number): Change[] {
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
  // members that are undefined are not written
  const dueAt = new Date(dueAtMs).toISOString()
  const data = JSON.stringify({ error: op.error, attempt, dueAt, durationMs: op.durationMs })
  return [
    { ...record('step_retrying', op, false, data), ...times },
    { kind: 'open_wait', wait: 'retry', key: op.key, dueAtMs, why: whyOf(op.error, attempt, op.retry) },
  ]
}

/** The last error of a step in a line, and how many attempts it has. */
function whyOf({ name, message }: WireError, attempt: number, retry: RetryPolicy | undefined): string {
  const line = `${name}: ${message}`.replace(/\s+/g, ' ')
  const shown = line.length <= WHY_CHARS ? line : `${line.slice(0, WHY_CHARS - 1)}…`
  return `${shown} (attempt ${attempt} of ${retry?.maxAttempts ?? attempt})`
}

const WHY_CHARS = 200

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
