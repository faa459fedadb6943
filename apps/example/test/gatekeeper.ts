/**
 * The real thing for tests: `stepwell dev` with its own Postgres, and the app, as processes on free ports with everything
 * in a temporary folder.
 *
 *     const gatekeeper = await startGatekeeper()
 *     afterAll(() => gatekeeper.stop())
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JournalEntryView, RunView } from '@stepwell/sdk'
import { type Answer, deliverWebhook, postJson } from '../src/demo/deliver.ts'
import { isFinal, readJournal, readRun } from '../src/demo/engine-api.ts'
import { findFreePorts } from '../src/demo/free-ports.ts'
import type { Example } from '../src/demo/real-payloads.ts'
import { createStack, type Stack } from '../src/demo/stack.ts'
import { type LedgerLine, readLedger } from '../src/outside/ledger.ts'

export interface Gatekeeper {
  stack: Stack
  /** A signed webhook; a delivery id of its own unless one is given. */
  deliver(example: Example<unknown>, deliveryId?: string): Promise<Answer>
  post(path: string, body: unknown): Promise<Answer>
  ledger(): LedgerLine[]
  run(runId: string): Promise<RunView>
  journal(runId: string): Promise<JournalEntryView[]>
  /** Waits until the run has ended, and gives it. */
  ended(runId: string): Promise<RunView>
  /** Waits until something is true. */
  until(what: string, condition: () => boolean | Promise<boolean>): Promise<void>
  stop(): Promise<void>
}

const HOOK_SECRET = 'the-secret-of-the-tests'
const DEADLINE_MS = 30_000
const POLL_MS = 20

export async function startGatekeeper(settings: Record<string, string> = {}): Promise<Gatekeeper> {
  const folder = await mkdtemp(join(tmpdir(), 'gatekeeper-test-'))
  const [enginePort = 0, appPort = 0] = await findFreePorts(2)
  const stack = createStack({
    logFolder: folder,
    enginePort,
    appPort,
    home: join(folder, 'home'),
    ledgerPath: join(folder, 'ledger.jsonl'),
    appEnv: { GATEKEEPER_HOOK_SECRET: HOOK_SECRET, GATEKEEPER_ANSWER_AFTER_MS: '0', ...settings },
  })
  const stop = async () => {
    await stack.stop()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await stack.startEngine()
    await stack.startApp()
  } catch (error) {
    await stop()
    throw error
  }

  let deliveries = 0
  const run = (runId: string) => readRun(stack.engineUrl, runId)
  return {
    stack,
    deliver(example, deliveryId) {
      deliveries += 1
      const id = deliveryId ?? `delivery-${deliveries}`
      return deliverWebhook(stack.appUrl, { example, deliveryId: id, secret: HOOK_SECRET })
    },
    post: (path, body) => postJson(stack.appUrl, path, body),
    ledger: () => readLedger(stack.ledgerPath).lines,
    run,
    journal: runId => readJournal(stack.engineUrl, runId, 0),
    async ended(runId) {
      await until(`The end of ${runId}`, async () => isFinal(await run(runId)))
      return run(runId)
    },
    until,
    stop,
  }
}

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + DEADLINE_MS
  // Between a kill and a restart nobody answers.
  while (!(await Promise.resolve(condition()).catch(() => false))) {
    if (performance.now() > deadlineMs) throw new Error(`${what}: not within ${DEADLINE_MS / 1000} s.`)
    await sleep(POLL_MS)
  }
}

/** The only run that an answer names. */
export function onlyRun({ status, body }: Answer): string {
  const [runId, ...others] = body.runs ?? []
  if (status !== 202 || runId === undefined || others.length > 0) {
    throw new Error(`One run was expected, and the answer was ${status} ${JSON.stringify(body)}.`)
  }
  return runId
}

/** How often a step of a run was executed, killed executions included. */
export function executionsOf(lines: readonly LedgerLine[], runId: string, step: string): number {
  return lines.filter(line => line.kind === 'execution' && line.run === runId && line.step === step).length
}

/** What providers did for a run, in order: `payments.charge`. */
export function effectsOf(lines: readonly LedgerLine[], runId: string): string[] {
  return lines.flatMap(line =>
    line.kind === 'effect' && line.key.startsWith(`${runId}:`) ? [`${line.service}.${line.action}`] : [],
  )
}

/** How many results are recorded under a key. */
export function resultsOf(journal: readonly JournalEntryView[], step: string): number {
  return journal.filter(
    entry => (entry.type === 'step_completed' || entry.type === 'step_failed') && entry.key === step,
  ).length
}
