/**
 * SPEC.md section 5, written a second time and as plainly as possible: proves that the vectors of replay agree with the
 * text. It runs one turn against an engine that records every op and delivers nothing from outside.
 */
import { isDeepStrictEqual } from 'node:util'
import type { WireError } from '../src/index.ts'
import { checkStepId, type Entry, type Event, type Json, type Op, type ReportState, stepKey } from '../src/index.ts'
import { type AskStatement, type Program, type RunStatement, runProgram } from './replay-program.ts'

type KeyedEntry = Extract<Entry, { key: string }>
type KeyedOp = Extract<Op, { op: 'step' | 'sleep' | 'wait' | 'send' }>

interface Slot {
  key: string
  recorded: KeyedEntry | null
  settledBy: KeyedEntry | null
  isOpen: boolean
  failedAttempts: number
  ask: { statement: AskStatement; saw: number; settle: (entry: KeyedEntry) => void } | null
}

/** All ops of the turn's reports in order, the state of the last one, and its error when that is `refused`. */
export interface TurnOutcome {
  state: ReportState
  ops: Op[]
  error?: WireError
}

/** Executes one turn of a program. */
export async function executeTurn(program: Program, journal: Entry[]): Promise<TurnOutcome> {
  const [first, ...rest] = journal
  if (first?.type !== 'run_started') throw new Error('a journal starts with run_started')
  const slots = new Map<string, Slot>()
  const ops: Op[] = []
  let seen = 1
  const ended = start(program, first.data, slots, () => seen)
  await drain()
  for (const entry of rest) await applyNext(entry as KeyedEntry) // only the first entry has no key
  const error = findMismatch(slots)
  if (error !== null) return { state: 'refused', ops: [], error }

  while (ended.with === null) {
    const ready = [...slots.values()].filter(slot => slot.ask !== null && slot.settledBy === null && !slot.isOpen)
    if (ready.length === 0) return { state: 'waiting', ops }
    const asked = ready.map(toOp)
    ops.push(...asked)
    for (const op of asked) {
      if (ended.with === null) await applyNext(toEntry(op, seen + 1))
    }
  }
  return { state: 'done', ops: [...ops, ended.with] }

  async function applyNext(entry: KeyedEntry): Promise<void> {
    seen = entry.seq
    apply(entry, slotOf(slots, entry.key))
    await drain()
  }
}

/** Starts the handler. What is returned tells how it ended, as soon as it has. */
function start(program: Program, event: Event, slots: Map<string, Slot>, seen: () => number): { with: Op | null } {
  const ended: { with: Op | null } = { with: null }
  const uses = new Map<string, number>()
  runProgram(program, event, async (id, statement) => {
    if (checkStepId(id) !== null) throw codedError('step_id_invalid', id)
    const use = (uses.get(id) ?? 0) + 1
    const previous = slots.get(stepKey(id, use - 1))
    if (use > 1 && previous?.settledBy === null) throw codedError('duplicate_step', id)
    uses.set(id, use)
    const slot = slotOf(slots, stepKey(id, use))
    return new Promise((resolve, reject) => {
      const settle = (entry: KeyedEntry) =>
        entry.type === 'step_failed' ? reject(entry.data.error) : resolve(readValue(entry))
      slot.ask = { statement, saw: seen(), settle }
      if (slot.settledBy !== null) settle(slot.settledBy)
    })
  }).then(
    // The programs give nothing but JSON and undefined.
    value => {
      ended.with = { op: 'finish', ...(value !== undefined && { output: value as Json }) }
    },
    thrown => {
      ended.with = { op: 'fail', error: toError(thrown) }
    },
  )
  return ended
}

function apply(entry: KeyedEntry, slot: Slot): void {
  switch (entry.type) {
    case 'step_due':
      slot.isOpen = false
      return
    case 'step_retrying':
      slot.failedAttempts += 1
      slot.recorded ??= entry
      slot.isOpen = true
      return
    case 'sleep_started':
    case 'wait_opened':
      slot.recorded ??= entry
      slot.isOpen = true
      return
    default:
      slot.recorded ??= entry
      slot.settledBy = entry
      slot.isOpen = false
      if (slot.ask !== null && isSame(slot.recorded, slot.ask.statement)) slot.ask.settle(entry)
  }
}

function findMismatch(slots: Map<string, Slot>): WireError | null {
  const asked = [...slots.values()].filter(slot => slot.ask !== null).map(slot => slot.key)
  for (const { key, recorded, ask } of slots.values()) {
    if (recorded === null || (ask !== null && isSame(recorded, ask.statement))) continue
    const now =
      ask === null ? `asks for ${asked.join(', ')}` : `asks for ${JSON.stringify(ask.statement)} under that key`
    const message = `The journal has ${recorded.type} under ${key} ${JSON.stringify(recorded)}; this code ${now}.`
    return { name: 'JournalMismatch', code: 'journal_mismatch', message }
  }
  return null
}

function isSame(recorded: KeyedEntry, asked: AskStatement): boolean {
  if (recorded.type.startsWith('step_')) return 'run' in asked
  if (recorded.type.startsWith('sleep_')) return 'sleep' in asked
  if (recorded.type === 'events_sent') return 'send' in asked
  if (recorded.type !== 'wait_opened' || !('wait' in asked)) return false
  return recorded.data.event === asked.event && isDeepStrictEqual(recorded.data.match ?? {}, asked.match ?? {})
}

/** Runs the body of a step; asks for everything else. */
function toOp({ key, ask, failedAttempts }: Slot): KeyedOp {
  if (ask === null) throw new Error('nobody asked')
  const { statement, saw } = ask
  if ('run' in statement) return { op: 'step', key, saw, attempt: failedAttempts + 1, ...runBody(statement) }
  if ('sleep' in statement) {
    const { ms, until } = statement
    return { op: 'sleep', key, saw, ...(ms !== undefined && { ms }), ...(until !== undefined && { until }) }
  }
  if ('send' in statement) return { op: 'send', key, saw, events: statement.events }
  const { event, match, timeoutMs } = statement
  return { op: 'wait', key, saw, event, ...(match && { match }), ...(timeoutMs !== undefined && { timeoutMs }) }
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
function toEntry(op: KeyedOp, seq: number): KeyedEntry {
  const later = '2026-01-02T00:00:00.000Z'
  const head = { seq, turn: 1, at: '2026-01-01T00:00:00.000Z', key: op.key, saw: op.saw }
  switch (op.op) {
    case 'sleep':
      return { ...head, type: 'sleep_started', data: { until: op.until ?? later } }
    case 'wait':
      return { ...head, type: 'wait_opened', data: { event: op.event, ...(op.match && { match: op.match }) } }
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

function readValue(entry: KeyedEntry): unknown {
  if (entry.type === 'step_completed' || entry.type === 'wait_matched') return entry.data
  if (entry.type === 'events_sent') return entry.data.ids
  return entry.type === 'wait_expired' ? null : undefined
}

function slotOf(slots: Map<string, Slot>, key: string): Slot {
  const slot = slots.get(key) ?? { key, recorded: null, settledBy: null, isOpen: false, failedAttempts: 0, ask: null }
  slots.set(key, slot)
  return slot
}

function codedError(code: string, id: string): WireError {
  return { name: 'StepwellError', code, message: `${code}: ${id}` }
}

function toError(thrown: unknown): WireError {
  if (thrown instanceof Error) return { name: thrown.name, message: thrown.message }
  return thrown as WireError // this model rejects with nothing else
}

/** Lets the handler run as far as it can: the programs use promises only, which have all settled before a macrotask. */
function drain(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
