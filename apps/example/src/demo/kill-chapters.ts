import { PATHS } from '../app.ts'
import { readLedger } from '../outside/ledger.ts'
import { type Answer, postJson } from './deliver.ts'
import { collectParcel, placeOrder } from './order-chapter.ts'
import type { Scene } from './story.ts'

const MAX_TRIES = 10

/** The worst moment: the bank has charged the card, and its answer has not arrived. */
export async function killApp(scene: Scene): Promise<void> {
  const { stack, narrator, watcher } = scene
  narrator.chapter(
    'kill -9 of the app, in the middle of a step',
    'The bank has charged the card, and the app dies before it has the answer.',
  )
  const run = await placeOrder(scene, { id: 'o-3', sku: 'hemp-rope' })
  const hasReserved = () => run.journal.some(entry => entry.type === 'step_completed' && entry.key === 'reserve-stock')
  await watcher.until('The charge', () => hasCharged(stack.ledgerPath, run.id))
  // Before anything is told: on a busy machine the bank's answer must not come first.
  await stack.killApp()
  await watcher.until('The reservation', hasReserved)
  narrator.tell('bank', 'has charged the card, and was about to say so', 'quiet')
  narrator.tell('app', 'killed with SIGKILL', 'bad')
  await watcher.until('The engine noticing', () => run.view?.waitingFor != null)
  narrator.tell('engine', run.view?.waitingFor ?? '', 'busy')
  const app = await stack.startApp()
  narrator.tell('app', `started again (process ${app.pid})`, 'good')
  await collectParcel(scene, run)
  await watcher.untilOutcome(run, 'shipped')
  const reserved = countOf(stack.ledgerPath, run.id, 'execution', 'reserve-stock')
  const charged = countOf(stack.ledgerPath, run.id, 'execution', 'charge')
  const effects = countOf(stack.ledgerPath, run.id, 'effect', 'charge')
  narrator.tell(run.label, `reserve-stock was finished before: executed ${reserved} time`, 'good')
  narrator.tell(
    run.label,
    `charge was cut off: executed ${charged} times under one idempotency key, so the bank charged ${effects} time`,
    'good',
  )
}

/** While a run sleeps there is nothing to lose: sleeps, waits and what has come in are rows in Postgres. */
export async function killEngine(scene: Scene): Promise<void> {
  const { stack, narrator, watcher } = scene
  narrator.chapter(
    'kill -9 of the engine, while a run sleeps',
    'Two days of cooling down are 2 seconds here. The approval comes in while the engine is dead.',
  )
  narrator.tell('visitor', 'Ada signs up')
  const { body } = await postJson(stack.appUrl, PATHS.users, { name: 'Ada', email: 'ada@example.com' })
  const [runId] = body.runs ?? []
  if (runId === undefined) throw new Error(`The sign-up has started no run: ${body.error ?? ''}`)
  const run = watcher.follow(runId, 'Ada')
  await watcher.until('The sleep', () => run.journal.some(entry => entry.type === 'sleep_started'))
  await stack.killEngine()
  narrator.tell('engine', 'killed with SIGKILL', 'bad')
  narrator.tell('boss', 'approves Ada; the app tries until the engine is there', 'quiet')
  await Promise.all([approve(scene), restartEngine(scene)])
  await watcher.untilOutcome(run, 'approved')
}

async function restartEngine({ stack, narrator }: Scene): Promise<void> {
  const engine = await stack.startEngine()
  narrator.tell(
    'engine',
    `started again (process ${engine.pid}); it took over the Postgres that was left running`,
    'good',
  )
}

/** A sender that is told 503 comes again. The client in the app has tried for some seconds by then. */
async function approve({ stack, narrator }: Scene): Promise<void> {
  for (let tries = 1; tries <= MAX_TRIES; tries += 1) {
    const answer: Answer = await postJson(stack.appUrl, `${PATHS.users}/1/approve`, {})
    if (answer.status === 202) return narrator.tell('boss', 'has 202 for the approval', 'good')
    if (answer.status !== 503) throw new Error(`The app answered ${answer.status} to the approval.`)
  }
  throw new Error('The engine did not come back for the approval.')
}

function hasCharged(ledgerPath: string, runId: string): boolean {
  return countOf(ledgerPath, runId, 'effect', 'charge') > 0
}

/** How often a step's body was executed, or a provider acted for it. */
function countOf(ledgerPath: string, runId: string, kind: 'execution' | 'effect', name: string): number {
  return readLedger(ledgerPath).lines.filter(line => {
    if (line.kind === 'execution') return kind === 'execution' && line.run === runId && line.step === name
    return line.kind === kind && line.action === name && line.key.startsWith(runId)
  }).length
}
