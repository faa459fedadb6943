/*
 * Two engine processes on one database.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { waitUntil } from '../support/wait-until.ts'
import { Stack } from './stack.ts'

let stack: Stack

beforeAll(async () => {
  stack = await Stack.start()
  await stack.startSecondEngine()
})
afterAll(() => stack?.stop())

async function sendRuns(prefix: string, count: number): Promise<string[]> {
  const answers = await stack.client.send(
    Array.from({ length: count }, (_, n) => ({ name: 'job.told', data: { job: `${prefix}${n}` } })),
  )
  return answers.flatMap(answer => answer.runs)
}

async function countHolders(): Promise<number> {
  const holders = await stack.look(sql => sql`select distinct owner from stepwell.queue where owner is not null`)
  return holders.length
}

test('1,000 runs on two engines: each runs once, and both take part', async () => {
  const runs = await sendRuns('both', 1_000)
  await waitUntil('both hold runs', async () => (await countHolders()) === 2)
  await waitUntil('all are completed', async () => (await stack.countCompleted(runs)) === 1_000)

  const ledger = await stack.ledger()
  const executions = Array.from({ length: 1_000 }, (_, n) => ledger.get(`both${n}`)?.length)
  expect(executions).toEqual(Array.from({ length: 1_000 }, () => 1))
  expect(await stack.look(sql => sql`select * from stepwell.check_invariants()`)).toEqual([])
})

test('when one engine is killed in the middle, the other takes over within the lease', async () => {
  const runs = await sendRuns('takeover', 1_000)
  await waitUntil('some are done', async () => (await stack.countCompleted(runs)) > 100)
  await waitUntil('both hold runs', async () => (await countHolders()) === 2)

  await stack.kill('engine')
  const killedAt = performance.now()
  await waitUntil('the dead engine holds nothing', async () => (await countHolders()) <= 1)
  // A lease of one second, looked at every quarter of it; the rest is what a busy machine may add.
  expect(performance.now() - killedAt).toBeLessThan(4_000)
  await waitUntil('all are completed', async () => (await stack.countCompleted(runs)) === 1_000)

  expect(await stack.look(sql => sql`select * from stepwell.check_invariants()`)).toEqual([])
})
