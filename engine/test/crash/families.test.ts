/*
 * Kill -9 of the engine and of Postgres at every statement that commits something of a family of runs: a child and its
 * result, a message, a next generation, a cancellation that reaches a child and is followed by undoing and by another run.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { COMMIT_POINTS, type CommitPoint, type CrashPoint } from '../support/pg-proxy.ts'
import { waitUntil } from '../support/wait-until.ts'
import { Stack, type Victim } from './stack.ts'

/** How often a family passes each statement at least; the dry run below holds that to be so. */
const PASSES: Partial<Record<CommitPoint, number>> = {
  ingest: 1,
  claim: 3,
  record: 1,
  advance: 7,
  signal: 1,
  ask_to_cancel: 1,
  walk_cancelled: 2,
}

const POINTS: CrashPoint[] = COMMIT_POINTS.flatMap(at =>
  Array.from({ length: PASSES[at] ?? 0 }, (_, index) => index + 1).flatMap(occurrence =>
    (['before', 'after'] as const).map(phase => ({ at, occurrence, phase })),
  ),
)
const VICTIMS: Victim[] = ['engine', 'postgres']

let stack: Stack
let families = 0

beforeAll(async () => {
  stack = await Stack.start()
})
afterAll(() => stack?.stop())

/** Asks until it is acknowledged, as any caller does. */
async function insist(what: string, ask: () => Promise<unknown>): Promise<void> {
  await waitUntil(
    `${what} is acknowledged`,
    () =>
      ask().then(
        () => true,
        () => false,
      ),
    { timeoutMs: 30_000 },
  )
}

/** A family's whole life; gives its run. */
async function live(job: string): Promise<string> {
  let run = ''
  await insist('the event', async () => {
    const [sent] = await stack.client.send({ name: 'family.start', data: { job }, id: `family-${job}` })
    run = sent?.runs[0] ?? ''
  })
  await waitsFor(run, 'approve')
  await insist('the signal', () => stack.client.signal(run, 'approve'))
  await waitsFor(run, 'sleeper')
  await insist('the cancellation', () => stack.client.cancel(run))
  return run
}

async function waitsFor(run: string, what: string): Promise<void> {
  await waitUntil(
    `${run} waits for ${what}`,
    async () => {
      const view = await stack.client.getRun(run).catch(() => null)
      return view?.waitingFor?.includes(what) === true
    },
    { timeoutMs: 30_000, explain: () => `engine: ${stack.engine.output()}` },
  )
}

async function expectOver(job: string): Promise<void> {
  const read = () =>
    stack.look(
      sql => sql<{ function: string; state: string; generation: number }[]>`
        select function, state, generation from stepwell.runs_done d
        where exists (
          select from stepwell.journal j
          where j.ws = d.ws and j.run_id = d.id and j.seq = 1 and j.data like ${`%"job":"${job}"%`})
          or exists (
            select from stepwell.runs_done p
            join stepwell.journal j on j.ws = p.ws and j.run_id = p.id and j.seq = 1
            where p.id = d.parent_id and j.data like ${`%"job":"${job}"%`})
        order by function, state`,
    )
  await waitUntil(`family ${job} is over`, async () => (await read().catch(() => [])).length >= 4, {
    timeoutMs: 40_000,
    explain: async () => JSON.stringify(await read()),
  })

  expect([...(await read())]).toEqual([
    { function: 'family', state: 'cancelled', generation: 2 },
    { function: 'family.on-cancel', state: 'completed', generation: 1 },
    { function: 'kid', state: 'completed', generation: 1 },
    { function: 'sleeper', state: 'cancelled', generation: 1 },
  ])
  const entered = (await stack.ledger()).get(job) ?? []
  // What the first generation booked is past: its journal is gone, and so is the wish to undo it.
  expect([...new Set(entered)]).toEqual(
    ['kid', 'booked', 'booked', 'unbooked', 'followed'].filter((step, at, all) => all.indexOf(step) === at),
  )
  expect(await stack.look(sql => sql`select * from stepwell.check_invariants()`)).toEqual([])
}

test('a family passes every commit point as often as the loop below believes', async () => {
  stack.proxy.resetCounts()

  await live('dry')
  await expectOver('dry')

  for (const [point, passes] of Object.entries(PASSES))
    expect(stack.proxy.counts[point as CommitPoint], point).toBeGreaterThanOrEqual(passes)
})

const CASES = VICTIMS.flatMap(victim => POINTS.map(point => ({ victim, ...point })))

test.each(CASES)(
  'kill -9 ($victim) $phase $at $occurrence loses and repeats nothing of a family',
  async ({ victim, ...point }) => {
    families += 1
    const job = `family${families}`
    let isReached = false
    stack.proxy.arm(point).then(() => {
      isReached = true
    })

    const lived = live(job)
    await waitUntil('the point is reached', () => isReached)
    await stack.kill(victim)
    stack.proxy.release('drop')
    await stack.restart(victim)
    await lived

    await expectOver(job)
  },
)
