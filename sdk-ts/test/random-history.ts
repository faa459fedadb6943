/**
 * Random histories: journals of programs that were run live, with whatever arrives in a random order, and without an HTTP
 * server between the turn and the engine.
 */
import type { Entry, Report, Turn } from '@stepwell/protocol'
import { Patience } from '../src/patience.ts'
import type { ReportAnswer } from '../src/reporter.ts'
import { Scopes } from '../src/scopes.ts'
import { BodyPlaces } from '../src/step-body.ts'
import { executeTurn } from '../src/turn.ts'
import { type EngineRun, newRun, recordReport } from './engine-run.ts'
import { aFunction } from './harness.ts'
import { type Program, toHandler } from './programs.ts'

const AT = '2026-01-01T00:00:00.000Z'
const MAX_TURNS = 5

/** From 0 to 1. */
export type Dice = () => number

/** The programs await nothing but steps: what is left waiting is so at once. */
class NoPatience extends Patience {
  override durationMs(): number {
    return 0
  }
}

/** One for all, as in an app: each of them makes every promise of the process cost more. */
const SCOPES = new Scopes()

/** Runs a program for some turns, and gives the journal of its first generation. */
export async function randomHistory(program: Program, dice: Dice): Promise<Entry[]> {
  const run = newRun('run_1', 'fn', { id: 'evt_1', name: 'test.started', data: {}, ts: AT })
  const pause = async () => {
    for (let ticks = Math.floor(dice() * 4); ticks > 0; ticks -= 1) await new Promise(resolve => setImmediate(resolve))
  }
  const deliver = async (report: Report): Promise<ReportAnswer> => {
    const from = run.journal.length
    if (dice() < 0.5) arrive(run, dice)
    recordReport(run, report)
    if (dice() < 0.2) arrive(run, dice)
    return { kind: 'acknowledged', entries: run.journal.slice(from), shouldYield: dice() < 0.1 }
  }
  for (let turn = 1; turn <= MAX_TURNS; turn += 1) {
    run.turn = turn
    const { journal } = run
    const report = await runTurn(program, run.journal, { pause, deliver })
    if (report.state === 'refused') throw new Error(`${report.error?.message}\n${JSON.stringify(run.journal, null, 1)}`)
    recordReport(run, report)
    if (run.ended !== null || run.generation > 1) return journal
    arrive(run, dice)
  }
  return run.journal
}

/** One turn. Without an engine that answers, everything goes into the response. */
export async function runTurn(
  program: Program,
  journal: Entry[],
  live: { pause?: () => Promise<void>; deliver?: (report: Report) => Promise<ReportAnswer> } = {},
): Promise<Report> {
  const { pause, deliver = async () => ({ kind: 'undelivered', message: '' }) } = live
  const turn: Turn = {
    kind: 'turn',
    workspace: 'a/dev',
    function: 'fn',
    run: { id: 'run_1', generation: 1 },
    turn: 1,
    epoch: 'e',
    budgetMs: 60_000,
    reportUrl: 'http://127.0.0.1:1/',
    journal: journal.slice(),
  }
  const end = await executeTurn({
    turn,
    definition: aFunction(toHandler(program, pause)),
    deliver: text => deliver(JSON.parse(text) as Report),
    places: new BodyPlaces(100),
    scopes: SCOPES,
    patience: new NoPatience(),
  })
  if (end.kind === 'stale') throw new Error(end.message)
  return JSON.parse(end.text) as Report
}

type Arrival = EngineRun['inbox'][number]

/** Some of what the run waits for arrives, in any order; now and then somebody wants it to end. */
function arrive(run: EngineRun, dice: Dice): void {
  const last = new Map<string, Entry>()
  for (const entry of run.journal) if ('key' in entry) last.set(entry.key, entry)
  const arrivals = [...last.values()].flatMap(entry => answerTo(entry, dice) ?? [])
  if (dice() < 0.04) arrivals.push({ type: 'cancel_requested', data: { by: 'request', message: 'enough' } })
  run.inbox = arrivals
    .filter(() => dice() < 0.6)
    .map(arrival => ({ arrival, place: dice() }))
    .sort((a, b) => a.place - b.place)
    .map(({ arrival }) => arrival)
  run.deliver()
}

function answerTo(entry: Entry, dice: Dice): Arrival | null {
  const [first, second] = [dice() < 0.6, dice() < 0.5]
  if (!('key' in entry)) return null
  const { key } = entry
  const event = { id: `e_${key}`, name: 'e', data: { of: key }, ts: AT }
  switch (entry.type) {
    case 'step_retrying':
      return { type: 'step_due', key }
    case 'sleep_started':
      return { type: 'sleep_completed', key }
    case 'wait_opened':
      return first ? { type: 'wait_matched', key, data: event } : { type: 'wait_expired', key }
    case 'signal_awaited':
      return first ? { type: 'signal_received', key, data: event } : { type: 'signal_expired', key }
    case 'child_started': {
      if (first) return { type: 'child_completed', key, data: { of: key } }
      const error = { name: 'Error', message: `child ${key} failed` }
      return second ? { type: 'child_failed', key, data: { error } } : { type: 'child_expired', key }
    }
    default:
      return null
  }
}
