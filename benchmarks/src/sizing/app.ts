/*
 * The app of the sizing measurements: one function of so many steps with a payload, and a load of so many runs per second.
 * Events are sent one by one, as they come in life.
 */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import { createFunction, StepwellClient, serve } from '@stepwell/sdk'
import { answerParent } from '../processes/answer.ts'

/** What this app is asked, as `NodeChild.ask` sends it. */
export type Question =
  | { do: 'prepare' }
  /** Sends events for so many seconds; answers with their number when every handler has ended. */
  | { do: 'load'; runsPerSecond: number; seconds: number; steps: number; payloadBytes: number }

/** A clock that ticks more often than events are due would cost more than they do. */
const TICK_MS_MIN = 5
const TICK_MS_MAX = 100
const EVENT = 'bench.sized'

let [started, ended] = [0, 0]
let payload = ''
let whenAllEnded: (() => void) | null = null

const sized = createFunction({
  id: 'sized',
  trigger: { event: EVENT },
  handler: async ({ event, step }) => {
    const { steps } = event.data as { steps: number }
    for (let n = 0; n < steps; n += 1) await step.run(`step-${n}`, () => payload)
    ended += 1
    if (ended === started) whenAllEnded?.()
  },
})
const client = new StepwellClient()

answerParent(async (question: Question) => {
  switch (question.do) {
    case 'prepare':
      await new Promise<void>(resolve =>
        createServer(serve([sized])).listen(Number(process.env.PORT), '127.0.0.1', resolve),
      )
      await client.sync([sized])
      return
    case 'load':
      return load(question)
  }
})

async function load(given: Extract<Question, { do: 'load' }>): Promise<number> {
  const { runsPerSecond, seconds, steps } = given
  // Random text: what customers send compresses better, so what is said about disks is on the safe side.
  payload = randomBytes(given.payloadBytes).toString('base64').slice(0, given.payloadBytes)
  ;[started, ended] = [0, 0]
  const sent: Promise<unknown>[] = []
  const tickMs = Math.min(TICK_MS_MAX, Math.max(TICK_MS_MIN, 1_000 / runsPerSecond))
  const startedAt = performance.now()
  for (let elapsed = 0; elapsed < seconds; elapsed = (performance.now() - startedAt) / 1_000) {
    for (; started < Math.floor(elapsed * runsPerSecond); started += 1)
      sent.push(client.send({ name: EVENT, data: { steps, payload } }))
    await pause(tickMs)
  }
  await Promise.all(sent)
  if (ended < started) await new Promise<void>(resolve => (whenAllEnded = resolve))
  return started
}
