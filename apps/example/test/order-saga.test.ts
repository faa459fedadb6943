import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PATHS } from '../src/app.ts'
import { getJson } from '../src/demo/deliver.ts'
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

/** The parcel of an order, as soon as it is booked: the run that waits for its collection. */
async function bookedParcel(runId: string): Promise<string> {
  let parcel = ''
  await gatekeeper.until('The booking of the parcel', async () => {
    const child = (await gatekeeper.journal(runId)).find(entry => entry.type === 'child_started')
    if (child?.type !== 'child_started') return false
    parcel = child.data.run
    return resultsOf(await gatekeeper.journal(parcel), 'book-parcel') === 1
  })
  return parcel
}

/** Has the carrier collect the parcel of an order, and waits for the end of the order. */
async function collected(runId: string) {
  const answer = await gatekeeper.post(`${PATHS.parcels}/${await bookedParcel(runId)}/collected`, {})
  expect(answer.status).toBe(202)
  return gatekeeper.ended(runId)
}

describe('an order', () => {
  test('is reserved, charged and shipped, once each', async () => {
    const runId = await place({ sku: 'oak-bucket' })

    expect((await collected(runId)).output).toMatchObject({ outcome: 'shipped' })
    expect(effectsOf(gatekeeper.ledger(), runId)).toEqual(['stock.reserve', 'payments.charge'])
    expect(effectsOf(gatekeeper.ledger(), await bookedParcel(runId))).toEqual(['carrier.book'])
  })

  test('says where it is', async () => {
    const runId = await place({ sku: 'hemp-rope', id: 'where-is-it' })
    await bookedParcel(runId)

    const underWay = await getJson(gatekeeper.stack.appUrl, `${PATHS.orders}/${runId}`)
    await collected(runId)
    const shipped = await getJson(gatekeeper.stack.appUrl, `${PATHS.orders}/${runId}`)

    expect(underWay.body).toMatchObject({
      status: { stage: 'delivering' },
      tags: { order: 'where-is-it', article: 'hemp-rope' },
    })
    expect(shipped.body).toMatchObject({ state: 'completed', status: { stage: 'shipped' } })
  })

  test('that is cancelled while its parcel waits is undone, parcel and all', async () => {
    const runId = await place({ sku: 'oak-bucket' })
    const parcel = await bookedParcel(runId)

    expect(await gatekeeper.post(`${PATHS.orders}/${runId}/cancel`, {})).toMatchObject({ status: 202 })

    expect(await gatekeeper.ended(runId)).toMatchObject({ state: 'cancelled', error: { code: 'run_cancelled' } })
    expect(await gatekeeper.ended(parcel)).toMatchObject({ state: 'cancelled' })
    const ledger = gatekeeper.ledger()
    expect(effectsOf(ledger, runId).slice(2)).toEqual(['payments.refund', 'stock.release'])
    expect(effectsOf(ledger, parcel)).toEqual(['carrier.book', 'carrier.cancel'])
  })

  test('that has ended is not cancelled, and one that is not there neither', async () => {
    const runId = await place({ sku: 'iron-crank' })
    await gatekeeper.ended(runId)

    expect(await gatekeeper.post(`${PATHS.orders}/${runId}/cancel`, {})).toMatchObject({ status: 409 })
    expect(await gatekeeper.post(`${PATHS.orders}/run_0/cancel`, {})).toMatchObject({ status: 404 })
  })

  test('that nobody delivers is undone in reverse order', async () => {
    const runId = await place({ sku: 'oak-bucket', country: 'AQ' })

    const run = await gatekeeper.ended(runId)
    expect(run).toMatchObject({ state: 'failed', error: { message: expect.stringContaining('AQ') } })
    expect(effectsOf(gatekeeper.ledger(), runId)).toEqual([
      'stock.reserve',
      'payments.charge',
      'payments.refund',
      'stock.release',
    ])
    expect(await outputOf(runId, 'undo:open-bill')).toEqual({ refundedCents: 4_900 })
    const child = (await gatekeeper.journal(runId)).find(entry => entry.type === 'child_started')
    expect(child).toMatchObject({ data: { function: 'delivery' } })
    if (child?.type === 'child_started')
      expect(executionsOf(gatekeeper.ledger(), child.data.run, 'book-parcel')).toBe(1)
  })

  test('with a declined card gives the stock back and refunds nothing', async () => {
    const runId = await place({ sku: 'oak-bucket', card: TEST_CARDS.declined })

    expect(await gatekeeper.ended(runId)).toMatchObject({
      state: 'failed',
      error: { message: 'The bank declined the card.' },
    })
    expect(effectsOf(gatekeeper.ledger(), runId)).toEqual(['stock.reserve', 'payments.refund', 'stock.release'])
    expect(await outputOf(runId, 'undo:open-bill')).toEqual({ refundedCents: 0 })
    // Asking a bank that said no again is of no use.
    expect(executionsOf(gatekeeper.ledger(), runId, 'charge')).toBe(1)
  })

  test('for something that is out of stock charges nobody', async () => {
    const runId = await place({ sku: 'iron-crank' })

    expect(await gatekeeper.ended(runId)).toMatchObject({
      state: 'failed',
      error: { cause: { name: 'OutOfStockError' } },
    })
    expect(effectsOf(gatekeeper.ledger(), runId)).toEqual([])
  })

  test('with a busy bank is tried again when the bank says', async () => {
    const runId = await place({ sku: 'oak-bucket', card: TEST_CARDS.busy })

    expect((await collected(runId)).output).toMatchObject({ outcome: 'shipped' })
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
    expect((await collected(runId)).output).toMatchObject({ outcome: 'shipped' })
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

  expect((await collected(runId)).output).toMatchObject({ outcome: 'shipped' })
  const lines = gatekeeper.ledger()
  expect(effectsOf(lines, runId)).toEqual(['stock.reserve', 'payments.charge'])
  expect(executionsOf(lines, runId, 'reserve-stock')).toBe(1)
  expect(executionsOf(lines, runId, 'charge')).toBe(2)
  expect(lines.filter(line => line.kind === 'repeat' && line.key.startsWith(runId))).toHaveLength(1)
  const journal = await gatekeeper.journal(runId)
  for (const step of ['reserve-stock', 'open-bill', 'charge']) expect(resultsOf(journal, step)).toBe(1)
  expect(journal.map(entry => entry.seq)).toEqual(journal.map((_, at) => at + 1))
})

test('a parcel that nobody collects is taken back, and the order with it', async () => {
  await gatekeeper.stack.killApp()
  await gatekeeper.stack.startApp({ GATEKEEPER_COLLECT_TIMEOUT: '200ms' })
  const runId = await place({ sku: 'oak-bucket' })

  const run = await gatekeeper.ended(runId)

  expect(run).toMatchObject({ state: 'failed', error: { message: expect.stringContaining('not collected') } })
  const ledger = gatekeeper.ledger()
  expect(effectsOf(ledger, await bookedParcel(runId))).toEqual(['carrier.book', 'carrier.cancel'])
  expect(effectsOf(ledger, runId).slice(2)).toEqual(['payments.refund', 'stock.release'])
})

async function outputOf(runId: string, step: string): Promise<unknown> {
  const entry = (await gatekeeper.journal(runId)).find(
    candidate => candidate.type === 'step_completed' && candidate.key === step,
  )
  return entry?.type === 'step_completed' ? entry.data : undefined
}
