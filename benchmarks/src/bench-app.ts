/*
 * The app under measurement: functions of no-op steps, in a process of its own. It tells its parent when a handler has
 * ended, so that the one who measures does not have to ask all the time: asking costs more than running.
 */
import { createServer } from 'node:http'
import { createFunction, StepwellClient, serve } from '@stepwell/sdk'

const port = Number(process.env.PORT)

function ofSteps(count: number) {
  return createFunction({
    id: `steps-${count}`,
    trigger: { event: `bench.steps-${count}` },
    handler: async ({ event, step }) => {
      for (let n = 0; n < count; n += 1) await step.run(`step-${n}`, () => n)
      process.send?.({ ended: event.id })
      return count
    },
  })
}

const functions = [1, 5, 10, 1_000].map(ofSteps)

createServer(serve(functions)).listen(port, '127.0.0.1', async () => {
  await new StepwellClient().sync(functions)
  console.log('ready')
})

// A profile is written at an orderly end.
process.once('SIGINT', () => process.exit(0))
