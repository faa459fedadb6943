import { expect } from 'vitest'
import { waitUntil } from '../support/wait-until.ts'
import type { Stack } from './stack.ts'

/** Which steps of the job may not start again once one of a higher rank has started. */
const RANKS: Record<string, number> = { first: 0, left: 1, right: 1, flaky: 2, last: 3 }

/** Sends until the engine has acknowledged: like any sender, who sends again when the connection broke. */
export async function sendJob(stack: Stack, job: string): Promise<void> {
  const events = [
    { name: 'job.start', data: { job }, id: `start-${job}` },
    { name: `job.go.${job}`, data: { job }, id: `go-${job}` },
  ]
  for (const event of events)
    await waitUntil(`${event.id} is acknowledged`, () =>
      stack.client.send(event).then(
        () => true,
        () => false,
      ),
    )
}

/** Waits until every job and its echo is done, and checks what the engine promises about them. */
export async function expectJobsDone(stack: Stack, jobs: string[]): Promise<void> {
  await waitUntil(
    `all of ${jobs.length} jobs are done`,
    async () => (await countDone(stack, jobs)) === 2 * jobs.length,
    {
      timeoutMs: 40_000,
      explain: () => explain(stack),
    },
  )

  const results = await readResults(stack, jobs)
  const ledger = await stack.ledger()
  for (const job of jobs) {
    const of = results.filter(result => result.job === job)
    expect(of.map(result => result.function).sort(), `runs of ${job}`).toEqual(['echo', 'work'])
    expect(
      of.map(result => result.state),
      `states of ${job}`,
    ).toEqual(['completed', 'completed'])
    expect(of.find(result => result.function === 'work')?.output).toEqual({ job, sides: [1, 2], gone: true })
    const ranks = (ledger.get(job) ?? []).filter(step => step in RANKS).map(step => RANKS[step] ?? 0)
    expect(ranks, `no step of ${job} runs again after a later one started: ${ledger.get(job)}`).toEqual(
      [...ranks].sort(),
    )
  }
  expect(await stack.look(sql => sql`select * from stepwell.check_invariants()`)).toEqual([])
}

interface Result {
  job: string
  function: string
  state: string
  output: unknown
}

/** By their inputs: a run of a job has the job's name in the event that started it. */
async function readResults(stack: Stack, jobs: string[]): Promise<Result[]> {
  const rows = await stack.look(
    sql => sql<{ job: string; function: string; state: string; output: string | null }[]>`
      select j.data::json -> 'data' ->> 'job' as job, d.function, d.state, d.output
      from stepwell.runs_done d
      join stepwell.journal j on j.ws = d.ws and j.run_id = d.id and j.seq = 1
      where j.data::json -> 'data' ->> 'job' = any(${`{${jobs.join(',')}}`}::text[])`,
  )
  return rows.map(row => ({ ...row, output: row.output === null ? null : JSON.parse(row.output) }))
}

async function countDone(stack: Stack, jobs: string[]): Promise<number> {
  return (await readResults(stack, jobs).catch(() => [])).length
}

async function explain(stack: Stack): Promise<string> {
  const live = await stack.look(async sql => ({
    runs: await sql`select r.id, r.function, r.trouble, q.owner, q.token from stepwell.runs r left join stepwell.queue q on q.run_id = r.id`,
    waits: await sql`select * from stepwell.waits`,
    inbox: await sql`select * from stepwell.inbox`,
    broken: await sql`select * from stepwell.check_invariants()`,
  }))
  return `${JSON.stringify(live, null, 1)}\nengine: ${stack.engine.output()}\napp: ${stack.app.output()}`
}
