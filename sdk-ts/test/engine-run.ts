/** One run of the engine double: its journal, its inbox, and what an op leaves in the journal. */
import {
  type Ack,
  type EndOp,
  type Entry,
  type EntryBody,
  type Event,
  isEndOp,
  type Json,
  type Op,
  type Report,
  SETTLING_TYPES,
  type Tags,
  type WireError,
} from '@stepwell/protocol'

type Body = { [T in Entry['type']]: { type: T } & EntryBody[T] }[Entry['type']]

export interface EngineRun {
  id: string
  functionId: string
  journal: Entry[]
  /** What arrived from outside and is not delivered. */
  inbox: Body[]
  turn: number
  epoch: string
  lastAck: Extract<Ack, { status: 200 }> | null
  ended: { output?: unknown; error?: WireError; cancelled?: true } | null
  generation: number
  /** What it has said of itself, as the reports brought it. */
  status: Json | undefined
  tags: Tags | undefined
  /** What it has published, in order. */
  published: { channel: string; data: Json }[]
  /** The run's clock in Unix milliseconds. */
  nowMs: number
  /** What `lastTypes` knows. */
  index: { journal: Entry[]; length: number; types: Map<string, string> }
  /** Sleeps, time-outs and back-offs. */
  due: { atMs: number; entry: Body }[]
  /** Moves the inbox into the journal. */
  deliver(): void
  /** Lets time jump to the next thing that is due; false when there is none. */
  letNextDueArrive(): boolean
  /** An event that a wait of this run may be open for. */
  sendEvent(event: Partial<Event>): void
  types(): string[]
}

export function newRun(id: string, functionId: string, event: Event): EngineRun {
  const run: EngineRun = {
    id,
    functionId,
    journal: [],
    generation: 1,
    status: undefined,
    tags: undefined,
    published: [],
    index: { journal: [], length: 0, types: new Map() },
    inbox: [],
    turn: 0,
    epoch: '',
    lastAck: null,
    ended: null,
    nowMs: Date.parse('2026-01-01T00:00:00.000Z'),
    due: [],
    deliver: () => {
      for (const entry of run.inbox) append(run, entry)
      run.inbox = []
    },
    letNextDueArrive: () => {
      run.due = run.due.filter(({ entry }) => !isSettled(run, keyOf(entry)))
      run.due.sort((a, b) => a.atMs - b.atMs)
      const next = run.due.shift()
      if (next === undefined) return false
      run.nowMs = Math.max(run.nowMs, next.atMs)
      run.inbox.push(next.entry)
      return true
    },
    sendEvent: part => {
      const event: Event = {
        id: 'evt_sent',
        name: 'test.sent',
        data: {},
        ts: new Date(run.nowMs).toISOString(),
        ...part,
      }
      const wait = run.journal.find(
        entry => entry.type === 'wait_opened' && entry.data.event === event.name && !isSettled(run, entry.key),
      )
      if (wait?.type === 'wait_opened') run.inbox.push({ type: 'wait_matched', key: wait.key, data: event })
    },
    types: () => run.journal.map(entry => entry.type),
  }
  append(run, { type: 'run_started', data: event })
  return run
}

/** Records what a report brings. */
export function recordReport(run: EngineRun, report: Report): void {
  if (report.status !== undefined) run.status = report.status
  if (report.tags !== undefined) run.tags = report.tags
  for (const op of report.ops) recordOp(run, op)
}

/** Records an op, when its key is not settled or open already. */
function recordOp(run: EngineRun, op: Op): void {
  if (isEndOp(op)) {
    end(run, op)
    return
  }
  if (isSettled(run, op.key) || isOpen(run, op.key)) return
  const { key, saw } = op
  switch (op.op) {
    case 'step':
      recordStep(run, op)
      return
    case 'sleep': {
      const untilMs = op.until === undefined ? run.nowMs + (op.ms ?? 0) : Date.parse(op.until)
      append(run, { type: 'sleep_started', key, saw, data: { until: new Date(untilMs).toISOString() } })
      run.due.push({ atMs: untilMs, entry: { type: 'sleep_completed', key } })
      return
    }
    case 'wait':
      append(run, { type: 'wait_opened', key, saw, data: { event: op.event, ...(op.match && { match: op.match }) } })
      if (op.timeoutMs === undefined) return
      run.due.push({ atMs: run.nowMs + op.timeoutMs, entry: { type: 'wait_expired', key } })
      return
    case 'send':
      append(run, {
        type: 'events_sent',
        key,
        saw,
        data: { ids: op.events.map((event, at) => event.id ?? `evt_${key}_${at}`) },
      })
      return
    case 'publish':
      append(run, { type: 'published', key, saw, data: { channel: op.channel } })
      run.published.push({ channel: op.channel, data: op.data })
      return
    case 'receive':
      append(run, { type: 'signal_awaited', key, saw, data: { signal: op.signal } })
      if (op.timeoutMs !== undefined)
        run.due.push({ atMs: run.nowMs + op.timeoutMs, entry: { type: 'signal_expired', key } })
      return
    case 'invoke': {
      const data = { run: `run_of_${key}`, function: op.function }
      append(run, { type: op.detached ? 'child_detached' : 'child_started', key, saw, data })
      if (op.timeoutMs !== undefined)
        run.due.push({ atMs: run.nowMs + op.timeoutMs, entry: { type: 'child_expired', key } })
    }
  }
}

function end(run: EngineRun, op: EndOp): void {
  switch (op.op) {
    case 'finish':
      run.ended = { output: op.output }
      return
    case 'fail':
      run.ended = { error: op.error }
      return
    case 'cancelled':
      run.ended = { cancelled: true }
      return
    case 'continue_as_new': {
      run.generation += 1
      run.turn = 0
      run.due = []
      run.inbox = []
      run.journal = []
      const event = { id: 'evt_next', name: 'stepwell.continued', data: op.input ?? {}, ts: '2026-01-01T00:00:00.000Z' }
      append(run, { type: 'run_started', data: event })
    }
  }
}

function recordStep(run: EngineRun, op: Extract<Op, { op: 'step' }>): void {
  const { key, saw, attempt, error, retry } = op
  if (error === undefined) {
    append(run, { type: 'step_completed', key, saw, ...('output' in op && { data: op.output }) } as Body)
  } else if (retry !== undefined && attempt < retry.maxAttempts) {
    const { minDelayMs, maxDelayMs, factor = 2 } = retry
    const atMs = run.nowMs + (retry.afterMs ?? Math.min(maxDelayMs, minDelayMs * factor ** (attempt - 1)))
    const data = { error, attempt, dueAt: new Date(atMs).toISOString(), durationMs: op.durationMs ?? 0 }
    append(run, { type: 'step_retrying', key, saw, data })
    run.due.push({ atMs, entry: { type: 'step_due', key } })
  } else {
    append(run, { type: 'step_failed', key, saw, data: { error, attempt } })
  }
}

function append(run: EngineRun, body: Body): void {
  const at = new Date(run.nowMs).toISOString()
  run.journal.push({ seq: run.journal.length + 1, turn: Math.max(1, run.turn), at, ...body } as Entry)
}

const SETTLING: readonly string[] = SETTLING_TYPES

function isSettled(run: EngineRun, key: string): boolean {
  const last = lastTypes(run).get(key)
  return last !== undefined && SETTLING.includes(last)
}

function isOpen(run: EngineRun, key: string): boolean {
  const last = lastTypes(run).get(key)
  return ['sleep_started', 'wait_opened', 'step_retrying', 'signal_awaited', 'child_started'].includes(last ?? '')
}

/** The type of the last entry of each key. Only what is new is looked at, unless a test has put in another journal. */
function lastTypes(run: EngineRun): Map<string, string> {
  if (run.index.journal !== run.journal) run.index = { journal: run.journal, length: 0, types: new Map() }
  const { types } = run.index
  for (; run.index.length < run.journal.length; run.index.length += 1) {
    const entry = run.journal[run.index.length]
    if (entry !== undefined) types.set(keyOf(entry), entry.type)
  }
  return types
}

function keyOf(entry: Body | Entry): string {
  return 'key' in entry ? entry.key : ''
}
