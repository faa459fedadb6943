/**
 * SPEC.md section 5, written a second time and as plainly as possible: proves that the vectors of replay agree with the
 * text. It runs one turn against an engine that records every op and delivers nothing from outside.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Tags, WireError } from '../src/index.ts'
import {
  checkStepId,
  type EndOp,
  type Entry,
  type Event,
  type Json,
  type Op,
  type ReportState,
  stepKey,
  UNDO_PREFIX,
} from '../src/index.ts'
import { type AskOf, isSame, type KeyedEntry, readValue, toEntry, toOp } from './replay-ops.ts'
import { type AskStatement, type Program, type RunStatement, runProgram } from './replay-program.ts'

interface Slot {
  key: string
  recorded: KeyedEntry | null
  settledBy: KeyedEntry | null
  isOpen: boolean
  failedAttempts: number
  ask: (AskOf & { settle: (entry: KeyedEntry) => void }) | null
  /** The handler was left: nobody waits for it. */
  isAbandoned: boolean
}

/** One run in one turn: what is known of its keys, and how far its handler is. */
interface Run {
  slots: Map<string, Slot>
  uses: Map<string, number>
  seen: number
  /** The handler goes no further; `leftFor` is how it ends when everything is undone. */
  leftFor: EndOp | null
  undoable: { key: string; statement: RunStatement; output: Json | undefined }[]
  isUndoing: boolean
  notUndone: string[]
  end: EndOp | null
  said: Said
}

/** What the handler says of its run. */
export interface Said {
  status?: Json
  tags?: Tags
}

/** All ops of the turn's reports in order, the state of the last one, its error when that is `refused`, and what is new of `Said`. */
export interface TurnOutcome extends Said {
  state: ReportState
  ops: Op[]
  error?: WireError
}

/** Executes one turn of a program. `said` is what the turn brings. */
export async function executeTurn(program: Program, journal: Entry[], said: Said = {}): Promise<TurnOutcome> {
  const [first, ...rest] = journal
  if (first?.type !== 'run_started') throw new Error('a journal starts with run_started')
  const run: Run = {
    slots: new Map(),
    uses: new Map(),
    seen: 1,
    leftFor: null,
    undoable: [],
    isUndoing: false,
    notUndone: [],
    end: null,
    said: { ...said },
  }
  const ops: Op[] = []
  start(program, first.data, run)
  await drain()
  for (const entry of rest) await applyNext(run, entry)
  const error = findMismatch(run.slots)
  if (error !== null) return { state: 'refused', ops: [], error }

  while (run.end === null) {
    const ready = [...run.slots.values()].filter(isReady)
    if (ready.length === 0) return { state: 'waiting', ops, ...newsOf(run.said, said) }
    const asked = ready.flatMap(({ key, ask, failedAttempts }) =>
      ask === null ? [] : [toOp(key, ask, failedAttempts)],
    )
    ops.push(...asked)
    for (const op of asked) {
      if (run.end === null) await applyNext(run, toEntry(op, run.seen + 1))
    }
  }
  return { state: 'done', ops: [...ops, run.end], ...newsOf(run.said, said) }
}

function isReady({ ask, settledBy, isOpen, isAbandoned }: Slot): boolean {
  return ask !== null && settledBy === null && !isOpen && !isAbandoned
}

/** Starts the handler. `run.end` tells how it ended, as soon as it has. */
function start(program: Program, event: Event, run: Run): void {
  runProgram(program, event, {
    ask: async (id, statement) => askOf(run, id, statement),
    setStatus: status => {
      run.said.status = status
    },
    setTags: tags => {
      const all = Object.entries({ ...run.said.tags, ...tags })
      run.said.tags = Object.fromEntries(all.flatMap(([name, value]) => (value === null ? [] : [[name, value]])))
    },
    continueAsNew: input => {
      if (!isOver(run)) run.end = { op: 'continue_as_new', input }
      return new Promise(() => {})
    },
  }).then(
    // The programs give nothing but JSON and undefined.
    value => {
      if (!isOver(run)) run.end = { op: 'finish', ...(value !== undefined && { output: value as Json }) }
    },
    thrown => {
      if (!isOver(run)) leave(run, { op: 'fail', error: toError(thrown) })
    },
  )
}

function isOver(run: Run): boolean {
  return run.end !== null || run.leftFor !== null
}

/** The handler asks for something under the next key of an id. */
async function askOf(run: Run, id: string, statement: AskStatement): Promise<unknown> {
  if (isOver(run)) return new Promise(() => {})
  if (checkStepId(id) !== null) throw codedError('step_id_invalid', id)
  const use = (run.uses.get(id) ?? 0) + 1
  const previous = run.slots.get(stepKey(id, use - 1))
  if (use > 1 && previous?.settledBy === null) throw codedError('duplicate_step', id)
  run.uses.set(id, use)
  return new Promise((resolve, reject) => {
    waitFor(run, stepKey(id, use), statement, entry => {
      if (entry.type === 'step_failed' || entry.type === 'child_failed') reject(entry.data.error)
      else if (entry.type === 'child_expired') reject(codedError('child_timed_out', entry.key))
      else resolve(readValue(entry))
    })
  })
}

function waitFor(run: Run, key: string, statement: AskStatement, settle: (entry: KeyedEntry) => void): void {
  const slot = slotOf(run.slots, key)
  slot.ask = { statement, saw: run.seen, settle }
  if (slot.settledBy !== null) settle(slot.settledBy)
}

/** The handler goes no further. What it waited for does not matter any more, and what it did is undone. */
function leave(run: Run, leftFor: EndOp): void {
  run.leftFor = leftFor
  for (const slot of run.slots.values()) slot.isAbandoned = slot.ask !== null && slot.settledBy === null
  undoNext(run)
}

/** The step that completed last comes first; when nothing is left to undo, the handler has ended. */
function undoNext(run: Run): void {
  if (run.leftFor === null || run.isUndoing) return
  const next = run.undoable.pop()
  if (next === undefined) {
    run.end = withoutUndone(run.leftFor, run.notUndone)
    return
  }
  const { key, statement, output } = next
  const { undo, attempts } = statement
  run.end = null
  run.isUndoing = true
  const result = typeof undo === 'object' ? { throws: undo.throws } : output !== undefined && { gives: output }
  const asStep = { run: UNDO_PREFIX + key, ...result, ...(attempts !== undefined && { attempts }) }
  waitFor(run, UNDO_PREFIX + key, asStep, entry => {
    if (entry.type === 'step_failed') run.notUndone.push(`${key}: ${entry.data.error.message}`)
    run.isUndoing = false
  })
}

function withoutUndone(end: EndOp, notUndone: string[]): EndOp {
  if (end.op !== 'fail' || notUndone.length === 0) return end
  return { op: 'fail', error: { ...end.error, message: `${end.error.message} (not undone: ${notUndone.join(', ')})` } }
}

async function applyNext(run: Run, entry: Entry): Promise<void> {
  run.seen = entry.seq
  if (entry.type === 'cancel_requested') {
    const goesOnAnew = run.end?.op === 'continue_as_new'
    if (goesOnAnew) run.end = null
    if (!isOver(run)) leave(run, { op: 'cancelled' })
  } else if ('key' in entry) {
    apply(run, entry, slotOf(run.slots, entry.key))
    undoNext(run)
  }
  await drain()
}

function apply(run: Run, entry: KeyedEntry, slot: Slot): void {
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
    case 'signal_awaited':
    case 'child_started':
      slot.recorded ??= entry
      slot.isOpen = true
      return
    default:
      slot.recorded ??= entry
      slot.settledBy = entry
      slot.isOpen = false
      if (slot.ask === null || !isSame(slot.recorded, slot.ask.statement)) return
      noteUndoable(run, entry, slot.ask.statement)
      if (!slot.isAbandoned) slot.ask.settle(entry)
  }
}

function noteUndoable(run: Run, entry: KeyedEntry, statement: AskStatement): void {
  if (entry.type !== 'step_completed' || !('run' in statement) || statement.undo === undefined) return
  run.undoable.push({ key: entry.key, statement, output: entry.data })
}

/** What differs from what the turn brought. */
function newsOf(now: Said, before: Said): Said {
  return {
    ...(!isDeepStrictEqual(now.status ?? null, before.status ?? null) && { status: now.status ?? null }),
    ...(!isDeepStrictEqual(now.tags ?? {}, before.tags ?? {}) && { tags: now.tags ?? {} }),
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

function slotOf(slots: Map<string, Slot>, key: string): Slot {
  const fresh = { recorded: null, settledBy: null, isOpen: false, failedAttempts: 0, ask: null, isAbandoned: false }
  const slot = slots.get(key) ?? { key, ...fresh }
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
