/** What the demo shows, chapter by chapter. Each goes on with what is there after the one before. */
import colors from 'picocolors'
import { readLedger } from '../outside/ledger.ts'
import { killApp, killEngine } from './kill-chapters.ts'
import type { Narrator } from './narrator.ts'
import { cancelOrder, undoOrder } from './order-chapter.ts'
import { countSteps, findFaults, writeTable } from './outcome.ts'
import type { RunWatcher } from './run-watcher.ts'
import type { Stack } from './stack.ts'
import { reviewPullRequests } from './webhook-chapter.ts'

export interface Scene {
  stack: Stack
  narrator: Narrator
  watcher: RunWatcher
  hookSecret: string
}

/** @throws Error when something does not happen, or does not hold at the end */
export async function tellStory(scene: Scene): Promise<void> {
  await startEverything(scene)
  await reviewPullRequests(scene)
  await undoOrder(scene)
  await cancelOrder(scene)
  await killApp(scene)
  await killEngine(scene)
  await endAllRuns(scene)
}

async function startEverything({ stack, narrator }: Scene): Promise<void> {
  narrator.chapter(
    'An engine and an app',
    'Two processes. The engine brings its own Postgres; the app serves functions at one URL.',
  )
  narrator.tell('engine', 'starting Postgres 18 and the engine', 'quiet')
  const engine = await stack.startEngine()
  narrator.tell('engine', `ready at ${stack.engineUrl} (process ${engine.pid})`, 'good')
  const app = await stack.startApp()
  narrator.tell('app', `found at ${stack.appUrl}/api/stepwell (process ${app.pid})`, 'good')
  narrator.tell('app', 'it serves review-pull-request, onboarding, order-saga and delivery', 'quiet')
}

async function endAllRuns({ stack, narrator, watcher }: Scene): Promise<void> {
  narrator.chapter(
    'Every run ends',
    'Nobody reviews PR #4: three days in production, 15 seconds here, then a reminder.',
  )
  const runs = watcher.runs()
  for (const run of runs) if (run.label === 'PR #4') await watcher.untilOutcome(run, 'reminded')
  const { lines } = readLedger(stack.ledgerPath)
  const faults = findFaults(lines, runs)
  if (faults.length > 0) throw new Error(faults.join('\n'))
  const outcomes = countSteps(lines, runs)
  const sum = (count: 'executions' | 'recorded') => outcomes.reduce((total, outcome) => total + outcome[count], 0)
  narrator.tell('all', `${runs.length} runs ended as they had to; the app and the engine were each killed once`, 'good')
  narrator.print('')
  narrator.print(writeTable(outcomes))
  narrator.print('')
  narrator.print(
    `   ${sum('executions')} executions, ${sum('recorded')} recorded results: one for each step of each run.`,
  )
  narrator.print(
    colors.bold('   A step that is killed in mid-body runs again: executed at least once, recorded exactly once.'),
  )
}
