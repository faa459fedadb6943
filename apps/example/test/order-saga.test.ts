import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PATHS } from '../src/app.ts'
import { TEST_CARDS } from '../src/outside/payments.ts'
import { effectsOf, executionsOf, type Gatekeeper, onlyRun, resultsOf, startGatekeeper } from './gatekeeper.ts'

let gatekeeper: Gatekeeper

beforeAll(async () => {
  gatekeeper = await startGatekeeper()
})

afterAll(() => gatekeeper.stop())

async function place(order: { sku: string; card?: string; country?: string; id?: string }): Promise<string> {
  return onlyRun(await gatekeeper.post(PATHS.orders, order))
}

describe('an order', () => {
  test('is reserved, charged and shipped, once each', async () => {
    const runId = await place({ sku: 'oak-bucket' })

    expect((await gatekeeper.ended(runId)).output).toMatchObject({ outcome: 'shipped' })
    expect(effectsOf(gatekeeper.ledger(), runId)).toEqual(['stock.reserve', 'payments.charge', 'carrier.book'])
  })

  test('that nobody delivers is undone in reverse order', async () => {
    const runId = await place({ sku: 'oak-bucket', country: 'AQ' })

    const { state, output } = await gatekeeper.ended(runId)
    expect({ state, output }).toMatchObject({
      state: 'completed',
      output: { outcome: 'cancelled', failedStep: 'ship', why: expect.stringContaining('AQ') },
    })
    expect(effectsOf(gatekeeper.ledger(), runId)).toEqual([
      'stock.reserve',
      'payments.charge',
      'carrier.cancel',
      'payments.refund',
      'stock.release',
    ])
    expect(await outputOf(runId, 'refund')).toEqual({ refundedCents: 4_900 })
    expect(executionsOf(gatekeeper.ledger(), runId, 'ship')).toBe(1)
  })

  test('with a declined card gives the stock back and refunds nothing', async () => {
    const runId = await place({ sku: 'oak-bucket', card: TEST_CARDS.declined })

    expect((await gatekeeper.ended(runId)).output).toMatchObject({ outcome: 'cancelled', failedStep: 'charge' })
    expect(effectsOf(gatekeeper.ledger(), runId)).toEqual(['stock.reserve', 'payments.refund', 'stock.release'])
    expect(await outputOf(runId, 'refund')).toEqual({ refundedCents: 0 })
    // Asking a bank that said no again is of no use.
    expect(executionsOf(gatekeeper.ledger(), runId, 'charge')).toBe(1)
  })

  test('for something that is out of stock charges nobody', async () => {
    const runId = await place({ sku: 'iron-crank' })

    expect((await gatekeeper.ended(runId)).output).toMatchObject({ outcome: 'cancelled', failedStep: 'reserve-stock' })
    expect(effectsOf(gatekeeper.ledger(), runId)).toEqual(['stock.release'])
  })

  test('with a busy bank is tried again when the bank says', async () => {
    const runId = await place({ sku: 'oak-bucket', card: TEST_CARDS.busy })

    expect((await gatekeeper.ended(runId)).output).toMatchObject({ outcome: 'shipped' })
    expect(executionsOf(gatekeeper.ledger(), runId, 'charge')).toBe(2)
    const retrying = (await gatekeeper.journal(runId)).find(entry => entry.type === 'step_retrying')
    const [first, second] = gatekeeper
      .ledger()
      .filter(line => line.kind === 'execution' && line.run === runId && line.step === 'charge')
    expect(retrying).toMatchObject({ data: { attempt: 1, error: { name: 'RetryAfterError' } } })
    expect(Date.parse(second?.at ?? '') - Date.parse(first?.at ?? '')).toBeGreaterThanOrEqual(300)
  })

  test('that is placed twice under one id is one order', async () => {
    const order = { sku: 'hemp-rope', id: 'placed-twice' }
    const [first, second] = await Promise.all([
      gatekeeper.post(PATHS.orders, order),
      gatekeeper.post(PATHS.orders, order),
    ])
    const runIds = new Set([...(first.body.runs ?? []), ...(second.body.runs ?? [])])
    const [runId = ''] = runIds

    expect(runIds.size).toBe(1)
    expect((await gatekeeper.ended(runId)).output).toMatchObject({ outcome: 'shipped' })
    const charges = gatekeeper.ledger().filter(line => line.kind === 'effect' && line.what.includes('placed-twice'))
    expect(charges.map(line => line.kind === 'effect' && line.action)).toEqual(['reserve', 'charge', 'book'])
  })
})

test('an app that is killed while the bank answers charges once, and repeats no finished step', async () => {
  await gatekeeper.stack.killApp()
  // Long enough to be killed in, however slow the machine is.
  await gatekeeper.stack.startApp({ GATEKEEPER_ANSWER_AFTER_MS: '10000' })
  const runId = await place({ sku: 'oak-bucket' })
  await gatekeeper.until('The charge', () => effectsOf(gatekeeper.ledger(), runId).includes('payments.charge'))

  await gatekeeper.stack.killApp()
  await gatekeeper.until('The reason', async () => (await gatekeeper.run(runId)).waitingFor !== null)
  await gatekeeper.stack.startApp()

  expect((await gatekeeper.ended(runId)).output).toMatchObject({ outcome: 'shipped' })
  const lines = gatekeeper.ledger()
  expect(effectsOf(lines, runId)).toEqual(['stock.reserve', 'payments.charge', 'carrier.book'])
  expect(executionsOf(lines, runId, 'reserve-stock')).toBe(1)
  expect(executionsOf(lines, runId, 'charge')).toBe(2)
  expect(lines.filter(line => line.kind === 'repeat' && line.key.startsWith(runId))).toHaveLength(1)
  const journal = await gatekeeper.journal(runId)
  for (const step of ['reserve-stock', 'charge', 'ship']) expect(resultsOf(journal, step)).toBe(1)
  expect(journal.map(entry => entry.seq)).toEqual(journal.map((_, at) => at + 1))
})

async function outputOf(runId: string, step: string): Promise<unknown> {
  const entry = (await gatekeeper.journal(runId)).find(
    candidate => candidate.type === 'step_completed' && candidate.key === step,
  )
  return entry?.type === 'step_completed' ? entry.data : undefined
}
