/*
 * The one door: everything that moves a leased run comes through here. Something happened to it; `decide` says what that
 * means; the store writes it in one transaction with what happened to other runs meanwhile, fenced by each run's token.
 * Only then the run's snapshot in memory moves on.
 *
 * When the database does not say whether it wrote, the run is dropped: memory may be behind. Its lease is given back by
 * the reconciling loop, and the next claim reads what is true.
 */

import type { Change, RecordChange, SettleChange } from '../core/change.ts'
import { decide } from '../core/decide.ts'
import { EngineError } from '../core/errors.ts'
import type { Happening } from '../core/happening.ts'
import { applyEntry } from '../core/snapshot.ts'
import type { Log } from '../log.ts'
import type { Advanced, DeliveredEntry } from '../store/advance.ts'
import { isDatabaseAway } from '../store/db.ts'
import type { Shapes } from './ensure-shape.ts'
import type { HeldRun, HeldRuns } from './held-runs.ts'
import { findInvoked } from './other-runs.ts'
import { createWriteAdvance, isProgress, type WriteAdvance, type WriteAdvanceDeps } from './write-advances.ts'

export interface AdvanceDeps extends WriteAdvanceDeps {
  shapes: Shapes
  held: HeldRuns
  dice: () => number
  /** The database's clock, Unix milliseconds. */
  nowMs: () => number
  log: Log
  /** Told after the commit that ended a turn. Must be quick and must not throw. */
  onSettled?: ((run: HeldRun, settle: SettleChange, nowMs: number) => void) | undefined
  /** Told after the commit of what a run has published, or of its end. Must be quick and must not throw. */
  onPublished?: ((run: HeldRun) => void) | undefined
}

/** What became of it. `recorded` and `delivered` are the run's new journal entries, each with its seq. */
export type AdvanceResult =
  | { status: 'ok'; isSettled: boolean; nowMs: number; entries: NewEntry[] }
  | { status: 'stale' }
  /** The database refused this report; nothing of it was written, and the turn is over. */
  | { status: 'refused'; message: string }

export interface NewEntry {
  seq: number
  type: RecordChange['type']
  /** Null for what is about the run and not about an op. */
  key: string | null
  saw: number | null
  data: string | null
}

export type AdvanceRun = (run: HeldRun, happening: Happening) => Promise<AdvanceResult>

/** Builds the door. */
export function createAdvanceRun(deps: AdvanceDeps): AdvanceRun {
  const writeAdvance = createWriteAdvance(deps)

  return async function advanceRun(run, happening) {
    if (run.isOver) return { status: 'stale' }
    run.snapshot.nowMs = deps.nowMs()
    await findInvoked(deps.catalogs, run, happening)
    const changes = decide(run.snapshot, happening, deps)
    try {
      await ensureShapes(deps, run, changes)
      const advanced = await writeAdvance(run, happening, changes)
      return applyToMemory(deps, run, changes, advanced)
    } catch (error) {
      if (isDatabaseAway(error) || happening.kind !== 'report') return giveUp(deps, run, error)
      return refuse(deps, writeAdvance, run, error)
    }
  }
}

/** The database does not say whether it wrote. */
function giveUp(deps: AdvanceDeps, run: HeldRun, cause: unknown): never {
  deps.held.drop(run)
  const message = 'The database did not take the report. The turn is given up and sent again.'
  throw new EngineError('unavailable', 503, message, {}, { cause })
}

/** The database refused what this one report holds: the run says so and is sent again later, and no other run suffers. */
async function refuse(
  deps: AdvanceDeps,
  writeAdvance: WriteAdvance,
  run: HeldRun,
  cause: unknown,
): Promise<AdvanceResult> {
  deps.log.error({ runId: run.wireId, err: cause }, 'the database refused a report')
  const message = 'The app reported something that cannot be stored. The log of the engine says what.'
  const happening = { kind: 'no_answer', code: 'app_body_invalid', message, dice: deps.dice() } as const
  const changes = decide(run.snapshot, happening, deps)
  try {
    const advanced = await writeAdvance(run, happening, changes)
    applyToMemory(deps, run, changes, advanced)
    return { status: 'refused', message }
  } catch (error) {
    return giveUp(deps, run, error)
  }
}

async function ensureShapes(deps: AdvanceDeps, run: HeldRun, changes: Change[]): Promise<void> {
  for (const change of changes) {
    if (change.kind !== 'open_wait' || change.wait !== 'event') continue
    if (!deps.shapes.isComplete(run.ws, change.event, change.match, run.startedAtMs))
      await deps.shapes.ensure(run.ws, change.event, change.match, run.startedAtMs)
  }
}

/** After the commit: the snapshot moves on, and whoever waits for the run or its timers is told. */
function applyToMemory(deps: AdvanceDeps, run: HeldRun, changes: Change[], advanced: Advanced): AdvanceResult {
  if (advanced.status === 'stale') {
    deps.held.drop(run)
    return { status: 'stale' }
  }
  const recorded = changes.filter(change => change.kind === 'record')
  const entries = orderEntries(advanced.firstSeq, recorded, advanced.delivered)
  for (const entry of entries) applyEntry(run.snapshot, entry)
  run.nextSeq += entries.length
  const settle = changes.at(-1)
  for (const change of changes) {
    if (change.kind === 'want_undo') run.snapshot.wantsUndo = true
    else if (change.kind === 'set_status') run.said.status = change.status === 'null' ? null : change.status
    else if (change.kind === 'set_tags') run.said.tags = JSON.stringify(change.tags)
    else if (change.kind === 'start_run') deps.wake(run.functions.find(change.function)?.ws ?? run.ws)
  }
  const isSettled = settle?.kind === 'settle' && settle.step !== 'running'
  if (settle?.kind === 'settle' && settle.step === 'trouble') deps.wakeAt(run.ws, run.snapshot.nowMs + settle.resendMs)
  else if (isProgress(changes)) run.snapshot.trouble = null
  for (const change of changes)
    if (change.kind === 'open_wait' && change.dueAtMs !== null) deps.wakeAt(run.ws, change.dueAtMs)
  if (isSettled) {
    // Its end may have resumed a parent, or have started what follows it.
    if (settle.step === 'done' && run.parent !== null) deps.wake(run.parent.ws)
    if (settle.step === 'done' && settle.state !== 'completed') deps.wake(run.ws)
    deps.held.drop(run)
    deps.onSettled?.(run, settle, advanced.nowMs)
  }
  if (changes.some(isForFollowers)) deps.onPublished?.(run)
  if (advanced.status === 'requeued') deps.wake(run.ws)
  return { status: 'ok', isSettled, nowMs: advanced.nowMs, entries }
}

/** What those who follow a run from outside wait for. */
function isForFollowers(change: Change): boolean {
  return change.kind === 'publish' || (change.kind === 'settle' && change.step === 'done')
}

/** Journal order: what had arrived, what was recorded, and what the look back of a new wait found. */
function orderEntries(firstSeq: number, recorded: RecordChange[], delivered: DeliveredEntry[]): NewEntry[] {
  const mine = recorded.map(({ type, key, saw, data }, index) => ({ seq: firstSeq + index, type, key, saw, data }))
  const others = delivered.map(entry => ({ ...entry, saw: null }))
  return [...others, ...mine].sort((a, b) => a.seq - b.seq)
}
