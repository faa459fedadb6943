/** What is left when every run has ended: how often each step was executed, and how often its result was recorded. */
import type { LedgerLine } from '../outside/ledger.ts'
import type { FollowedRun } from './run-watcher.ts'

export interface StepOutcome {
  function: string
  step: string
  runs: number
  /** Bodies that have started, those of killed processes included. */
  executions: number
  /** Attempts that failed and were followed by another one. */
  retries: number
  /** Results: one for each run that got to the step. */
  recorded: number
}

/** One item per step, function by function, in the order in which they first ran. */
export function countSteps(lines: readonly LedgerLine[], runs: readonly FollowedRun[]): StepOutcome[] {
  const outcomes = new Map<string, StepOutcome>()
  const outcomeOf = (name: string, step: string): StepOutcome => {
    const key = `${name} ${step}`
    const outcome = outcomes.get(key) ?? { function: name, step, runs: 0, executions: 0, retries: 0, recorded: 0 }
    outcomes.set(key, outcome)
    return outcome
  }
  const seen = new Set<string>()
  for (const line of lines) {
    if (line.kind !== 'execution') continue
    const outcome = outcomeOf(line.function, line.step)
    outcome.executions += 1
    if (!seen.has(`${line.run} ${line.step}`)) outcome.runs += 1
    seen.add(`${line.run} ${line.step}`)
  }
  for (const { view, journal } of runs) {
    for (const entry of journal) {
      if (entry.type === 'step_retrying') outcomeOf(view?.function ?? '', entry.key).retries += 1
      if (entry.type === 'step_completed' || entry.type === 'step_failed') {
        outcomeOf(view?.function ?? '', entry.key).recorded += 1
      }
    }
  }
  const functions = [...new Set([...outcomes.values()].map(outcome => outcome.function))]
  return functions.flatMap(name => [...outcomes.values()].filter(outcome => outcome.function === name))
}

/** What must hold and does not, in sentences; empty when all is well. */
export function findFaults(lines: readonly LedgerLine[], runs: readonly FollowedRun[]): string[] {
  const faults: string[] = []
  for (const { label, endsAs, view, journal } of runs) {
    if (view?.state !== endsAs) faults.push(`The run of ${label} is ${view?.state ?? 'unknown'}, not ${endsAs}.`)
    if (journal.some((entry, at) => entry.seq !== at + 1)) faults.push(`The journal of ${label} has a hole.`)
    const settled = journal.flatMap(entry =>
      entry.type === 'step_completed' || entry.type === 'step_failed' ? [entry.key] : [],
    )
    for (const key of new Set(settled)) {
      const count = settled.filter(other => other === key).length
      if (count > 1) faults.push(`Step ${key} of ${label} has ${count} recorded results.`)
    }
  }
  const charged = lines.flatMap(line =>
    line.kind === 'effect' && line.service === 'payments' && line.action === 'charge' ? [line.what] : [],
  )
  if (new Set(charged).size !== charged.length) faults.push('An order was charged twice.')
  return faults
}

/** The outcomes as a table of text. */
export function writeTable(outcomes: readonly StepOutcome[]): string {
  const rows = outcomes.map(outcome => [
    outcome.function,
    outcome.step,
    String(outcome.runs),
    String(outcome.executions),
    String(outcome.recorded),
    remarkOn(outcome),
  ])
  const all = [['function', 'step', 'runs', 'executions', 'recorded', ''], ...rows]
  const widths = (all[0] ?? []).map((_, column) => Math.max(...all.map(row => row[column]?.length ?? 0)))
  const isNumber = (column: number) => column >= 2 && column <= 4
  return all
    .map((row, at) => {
      const isRepeat = at > 1 && row[0] === all[at - 1]?.[0]
      const cells = row.map((cell, column) => {
        const width = widths[column] ?? 0
        if (column === 0 && isRepeat) return ' '.repeat(width)
        return isNumber(column) ? cell.padStart(width) : cell.padEnd(width)
      })
      return `   ${cells.join('  ')}`.trimEnd()
    })
    .join('\n')
}

function remarkOn({ executions, retries, recorded }: StepOutcome): string {
  const cutOff = executions - retries - recorded
  return [
    ...(retries > 0 ? [`${retries} failed and tried again`] : []),
    ...(cutOff > 0 ? [`${cutOff} killed in mid-body`] : []),
  ].join(', ')
}
