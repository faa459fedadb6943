/** What the model of replay does with single ops and entries: SPEC.md sections 5 and 7, one by one. */
import { isDeepStrictEqual } from 'node:util'
import type { EndOp, Entry, Op } from '../src/index.ts'
import type { AskStatement, RunStatement } from './replay-program.ts'

export type KeyedEntry = Extract<Entry, { key: string }>
export type KeyedOp = Exclude<Op, EndOp>

/** What was asked under a key, and how much of the journal had been seen. */
export interface AskOf {
  statement: AskStatement
  saw: number
}

/** Whether a handler asks for what the journal has under the key. */
export function isSame(recorded: KeyedEntry, asked: AskStatement): boolean {
  if (recorded.type.startsWith('step_')) return 'run' in asked
  if (recorded.type.startsWith('sleep_')) return 'sleep' in asked
  if (recorded.type === 'events_sent') return 'send' in asked
  if (recorded.type === 'signal_awaited') return 'receive' in asked && recorded.data.signal === asked.signal
  // A child that could not be started leaves nothing but this.
  if (recorded.type === 'child_failed') return 'invoke' in asked
  if (recorded.type === 'child_started' || recorded.type === 'child_detached') {
    return 'invoke' in asked && recorded.data.function === asked.function
  }
  if (recorded.type !== 'wait_opened' || !('wait' in asked)) return false
  return recorded.data.event === asked.event && isDeepStrictEqual(recorded.data.match ?? {}, asked.match ?? {})
}

/** Runs the body of a step; asks for everything else. */
export function toOp(key: string, { statement, saw }: AskOf, failedAttempts: number): KeyedOp {
  if ('run' in statement) {
    const undo = statement.undo !== undefined && { undo: true as const }
    return { op: 'step', key, saw, attempt: failedAttempts + 1, ...runBody(statement), ...undo }
  }
  if ('sleep' in statement) {
    const { ms, until } = statement
    return { op: 'sleep', key, saw, ...(ms !== undefined && { ms }), ...(until !== undefined && { until }) }
  }
  if ('send' in statement) return { op: 'send', key, saw, events: statement.events }
  const { timeoutMs } = statement
  const timeout = timeoutMs !== undefined && { timeoutMs }
  if ('receive' in statement) return { op: 'receive', key, saw, signal: statement.signal, ...timeout }
  if ('invoke' in statement) {
    const { function: child, data, onCancel, detached } = statement
    const isAbandoned = onCancel === 'abandon' && { onCancel }
    const asked = { ...(data !== undefined && { data }), ...timeout, ...isAbandoned, ...(detached && { detached }) }
    return { op: 'invoke', key, saw, function: child, ...asked }
  }
  const { event, match } = statement
  return { op: 'wait', key, saw, event, ...(match && { match }), ...timeout }
}

function runBody({
  gives,
  throws,
  attempts = 4,
}: RunStatement): Pick<Extract<Op, { op: 'step' }>, 'output' | 'error' | 'retry'> {
  if (throws !== undefined)
    return { error: throws, retry: { maxAttempts: attempts, minDelayMs: 1_000, maxDelayMs: 1_000 } }
  return gives === undefined ? {} : { output: gives }
}

/** What the engine records for an op: SPEC.md section 7. */
export function toEntry(op: KeyedOp, seq: number): KeyedEntry {
  const later = '2026-01-02T00:00:00.000Z'
  const head = { seq, turn: 1, at: '2026-01-01T00:00:00.000Z', key: op.key, saw: op.saw }
  switch (op.op) {
    case 'publish':
      return { ...head, type: 'published', data: { channel: op.channel } }
    case 'sleep':
      return { ...head, type: 'sleep_started', data: { until: op.until ?? later } }
    case 'wait':
      return { ...head, type: 'wait_opened', data: { event: op.event, ...(op.match && { match: op.match }) } }
    case 'receive':
      return { ...head, type: 'signal_awaited', data: { signal: op.signal } }
    case 'invoke':
      return {
        ...head,
        type: op.detached ? 'child_detached' : 'child_started',
        data: { run: `run_of_${op.key}`, function: op.function },
      }
    case 'send':
      return { ...head, type: 'events_sent', data: { ids: op.events.map((event, at) => event.id ?? `evt_${at}`) } }
    case 'step': {
      const { error, attempt, retry, output } = op
      if (error === undefined) return { ...head, type: 'step_completed', ...(output !== undefined && { data: output }) }
      if (attempt >= (retry?.maxAttempts ?? 0)) return { ...head, type: 'step_failed', data: { error, attempt } }
      return { ...head, type: 'step_retrying', data: { error, attempt, dueAt: later } }
    }
  }
}

/** What the handler gets. */
export function readValue(entry: KeyedEntry): unknown {
  switch (entry.type) {
    case 'step_completed':
    case 'wait_matched':
    case 'signal_received':
    case 'child_completed':
      return entry.data
    case 'events_sent':
      return entry.data.ids
    case 'child_detached':
      return { run: entry.data.run }
    default:
      return entry.type === 'wait_expired' || entry.type === 'signal_expired' ? null : undefined
  }
}
