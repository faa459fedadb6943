/*
 * The app of the scale benchmark: functions of no-op steps, one after another and side by side. It sends events when its
 * parent asks for them, and says when so many handlers have ended.
 */
import { createServer } from 'node:http'
import { createFunction, StepwellClient, serve } from '@stepwell/sdk'
import { answerParent } from '../processes/answer.ts'

/** What this app is asked, as `NodeChild.ask` sends it. */
export type Question =
  | { do: 'prepare' }
  /** Starts runs; answers when that many handlers have ended since. */
  | { do: 'run'; event: string; count: number }
  /** Answers when that many handlers have ended since the app began. */
  | { do: 'wait'; ended: number }

const EVENTS_PER_CALL = 1_000

let ended = 0
let waiting: { ended: number; resolve: () => void }[] = []

function onEnd(): void {
  ended += 1
  for (const { resolve } of waiting.filter(waiter => waiter.ended <= ended)) resolve()
  waiting = waiting.filter(waiter => waiter.ended > ended)
}

function whenEnded(count: number): Promise<void> {
  return ended >= count ? Promise.resolve() : new Promise(resolve => waiting.push({ ended: count, resolve }))
}

const sequential = [1, 5, 1_000, 10_000].map(count =>
  createFunction({
    id: `steps-${count}`,
    trigger: { event: `bench.steps-${count}` },
    handler: async ({ step }) => {
      for (let n = 0; n < count; n += 1) await step.run(`step-${n}`, () => n)
      onEnd()
    },
  }),
)

const parallel = [1_000, 10_000].map(count =>
  createFunction({
    id: `parallel-${count}`,
    trigger: { event: `bench.parallel-${count}` },
    handler: async ({ step }) => {
      await Promise.all(Array.from({ length: count }, (_, n) => step.run(`step-${n}`, () => n)))
      onEnd()
    },
  }),
)

const functions = [...sequential, ...parallel]
const client = new StepwellClient()

answerParent(async (question: Question) => {
  switch (question.do) {
    case 'prepare':
      await new Promise<void>(resolve =>
        createServer(serve(functions)).listen(Number(process.env.PORT), '127.0.0.1', resolve),
      )
      await client.sync(functions)
      return
    case 'run': {
      const done = whenEnded(ended + question.count)
      const events = Array.from({ length: question.count }, () => ({ name: question.event }))
      for (let at = 0; at < events.length; at += EVENTS_PER_CALL)
        await client.send(events.slice(at, at + EVENTS_PER_CALL))
      return done
    }
    case 'wait':
      return whenEnded(question.ended)
  }
})
