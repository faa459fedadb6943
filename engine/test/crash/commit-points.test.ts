/*
 * Kill -9 of the engine, of Postgres and of the app at every statement that commits something of a run, before the server
 * gets it and after the server has committed it: whatever was acknowledged finishes, recorded once, in order.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { COMMIT_POINTS, type CommitPoint, type CrashPoint } from '../support/pg-proxy.ts'
import { waitUntil } from '../support/wait-until.ts'
import { Stack, type Victim } from './stack.ts'
import { expectJobsDone, sendJob } from './verify.ts'

/** How often the job passes each statement at least; the dry run below holds that to be so. */
const PASSES: Partial<Record<CommitPoint, number>> = {
  ingest: 2,
  claim: 3,
  record: 3,
  advance: 7,
  fire_timers: 2,
  // every job waits for an event of a name of its own, so each makes a shape known and looks back
  add_shape: 1,
  add_event_keys: 1,
  complete_shape: 1,
}

const POINTS: CrashPoint[] = COMMIT_POINTS.flatMap(at =>
  Array.from({ length: PASSES[at] ?? 0 }, (_, index) => index + 1).flatMap(occurrence =>
    (['before', 'after'] as const).map(phase => ({ at, occurrence, phase })),
  ),
)
const VICTIMS: Victim[] = ['engine', 'postgres', 'app']

let stack: Stack
let jobs = 0

beforeAll(async () => {
  stack = await Stack.start()
})
afterAll(() => stack?.stop())

test('the job passes every commit point as often as the loop below believes', async () => {
  stack.proxy.resetCounts()

  await sendJob(stack, 'dry')
  await expectJobsDone(stack, ['dry'])

  for (const point of COMMIT_POINTS) expect(stack.proxy.counts[point], point).toBeGreaterThanOrEqual(PASSES[point] ?? 0)
})

const CASES = VICTIMS.flatMap(victim => POINTS.map(point => ({ victim, ...point })))

test.each(CASES)(
  'kill -9 ($victim) $phase $at $occurrence loses nothing and repeats nothing',
  async ({ victim, ...point }) => {
    jobs += 1
    const names = [`job${jobs}a`, `job${jobs}b`]
    let isReached = false
    stack.proxy.arm(point).then(() => {
      isReached = true
    })

    const sent = Promise.all(names.map(name => sendJob(stack, name)))
    await waitUntil('the point is reached', () => isReached)
    await stack.kill(victim)
    stack.proxy.release(victim === 'app' ? 'forward' : 'drop')
    await stack.restart(victim)
    await sent

    await expectJobsDone(stack, names)
  },
)
