/*
 * Kill -9 of an app that has many turns of few requests at once.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { waitUntil } from '../support/wait-until.ts'
import { Stack } from './stack.ts'
import { expectJobsDone, sendJob } from './verify.ts'

const JOBS = 100

let stack: Stack

beforeAll(async () => {
  stack = await Stack.start()
})
afterAll(() => stack?.stop())

async function countTroubled(): Promise<number> {
  const rows = await stack.look(sql => sql`select id from stepwell.runs where trouble is not null`)
  return rows.length
}

test('an app that is killed with many turns under way loses none, and each step is recorded once', async () => {
  // From the answer to this one the engine knows that the app takes several turns at once.
  await sendJob(stack, 'first')
  await expectJobsDone(stack, ['first'])
  const jobs = Array.from({ length: JOBS }, (_, n) => `batch${n}`)
  await stack.client.send(jobs.map(job => ({ name: 'job.start', data: { job } })))

  await waitUntil('some have begun', async () => (await stack.ledger()).size > JOBS / 4)
  await stack.kill('app')
  await waitUntil('the engine has lost several turns', async () => (await countTroubled()) > JOBS / 10)
  await stack.restart('app')
  await stack.client.send(jobs.map(job => ({ name: `job.go.${job}`, data: { job } })))

  await expectJobsDone(stack, jobs)
  const twice = await stack.look(
    sql => sql`
      select run_id, key
      from stepwell.journal
      where type in ('step_completed', 'step_failed')
      group by run_id, key
      having count(*) > 1`,
  )
  expect(twice).toEqual([])
})
