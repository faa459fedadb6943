/*
 * One turn: send it, wait for its end, record that. Reports of the turn come in on their own way (take-reports.ts); the
 * response is the last one. No transaction is open while the app is being called.
 */
import type { Report } from '@stepwell/protocol'
import type { CallApp } from '../call/call-app.ts'
import { limitFailure } from '../core/decide.ts'
import type { Happening } from '../core/happening.ts'
import type { AdvanceRun } from './advance-runs.ts'
import type { Leased } from './claim-runs.ts'
import type { HeldRun, HeldRuns } from './held-runs.ts'

export interface RunTurnDeps {
  callApp: CallApp
  advanceRun: AdvanceRun
  held: HeldRuns
  dice: () => number
  /** Where apps reach this process: the turn's report URL. */
  reportUrl: string
  /** How long an app may start new step bodies within one turn. */
  budgetMs: number
  /** How long an app may show no sign of life. */
  turnTimeoutMs: number
}

/**
 * Sends the turn to the app and records how it ended. Resolves when the run is settled or lost. Whatever goes wrong, the
 * run is not held on to: its lease is given back, and the next claim reads what is true.
 */
export async function runTurn(deps: RunTurnDeps, leased: Leased): Promise<void> {
  try {
    await sendAndRecord(deps, leased)
  } finally {
    deps.held.drop(leased.run)
  }
}

async function sendAndRecord(deps: RunTurnDeps, leased: Leased): Promise<void> {
  const happening = await dispatch(deps, leased)
  const { run } = leased
  run.isEnding = true
  // Reports of this turn that are still being written come first.
  await run.last?.ack.catch(() => {})
  if (run.isOver) return
  await deps.advanceRun(run, happening)
}

async function dispatch(deps: RunTurnDeps, leased: Leased): Promise<Happening> {
  const { run } = leased
  const { cancel, wantsUndo } = run.snapshot
  if (cancel !== null && !wantsUndo) return { kind: 'cancelled', reason: cancel }
  const error = limitFailure(run.snapshot, [])
  if (error !== null) return { kind: 'over_limit', error }
  if (run.catalog.url === null) {
    return noAnswer(
      deps,
      'app_unknown',
      `No app has registered for ${run.catalog.name} yet, so "${run.function}" cannot run. Start the app, or name it with -u.`,
    )
  }
  run.lastSignAtMonotonicMs = performance.now()
  run.sentMs = run.lastSignAtMonotonicMs - run.claimedAtMonotonicMs
  const outcome = await deps.callApp({
    catalog: run.catalog,
    kind: 'turn',
    turn: `${run.wireId} ${run.token}`,
    body: turnBody(deps, leased),
    lastSignAtMs: () => run.lastSignAtMonotonicMs,
    timeoutMs: deps.turnTimeoutMs,
    isOver: () => run.isOver,
  })
  run.firstByteMs = outcome.firstByteAtMs === null ? null : outcome.firstByteAtMs - run.claimedAtMonotonicMs
  if (outcome.kind === 'no_answer') return noAnswer(deps, outcome.code, outcome.message)
  const problem = mismatch(run, outcome.report)
  if (problem !== null) return noAnswer(deps, 'app_body_invalid', problem)
  if (outcome.report.replayMs !== undefined) run.replayMs = outcome.report.replayMs
  return { kind: 'report', report: outcome.report, isResponse: true }
}

/**
 * The response must be about this turn; a proxy's cache could send anything. Its `n` does not matter: ops that were applied
 * already, because only their acknowledgement was lost, are known by their keys.
 */
function mismatch(run: HeldRun, report: Report): string | null {
  const isOurs =
    report.run === run.wireId &&
    report.epoch === run.token &&
    report.turn === run.turn &&
    report.generation === run.snapshot.generation
  if (!isOurs)
    return `App at ${run.catalog.url} answered with a report about another turn. Is something caching its responses?`
  if (report.state === 'running')
    return `App at ${run.catalog.url} ended the turn with a report that says it is still running.`
  return null
}

function turnBody(deps: RunTurnDeps, { run, journal }: Leased): string {
  const head = JSON.stringify({
    kind: 'turn',
    workspace: run.catalog.name,
    function: run.function,
    version: run.version,
    run: { id: run.wireId, generation: run.snapshot.generation },
    turn: run.turn,
    epoch: run.token,
    budgetMs: deps.budgetMs,
    reportUrl: deps.reportUrl,
  })
  const { status, tags } = run.said
  const said = `${status === null ? '' : `,"status":${status}`}${tags === null ? '' : `,"tags":${tags}`}`
  return `${head.slice(0, -1)}${said},"journal":${journal}}`
}

function noAnswer(
  deps: RunTurnDeps,
  code: Extract<Happening, { kind: 'no_answer' }>['code'],
  message: string,
): Happening {
  return { kind: 'no_answer', code, message, dice: deps.dice() }
}
