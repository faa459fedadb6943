/* The app under measurement: functions of no-op steps, in a process of its own. */
import { createServer } from 'node:http'
import { createFunction, StepwellClient, serve } from '@stepwell/sdk'

const port = Number(process.env.PORT)

function ofSteps(count: number) {
  return createFunction({
    id: `steps-${count}`,
    trigger: { event: `bench.steps-${count}` },
    handler: async ({ step }) => {
      for (let n = 0; n < count; n += 1) await step.run(`step-${n}`, () => n)
      return count
    },
  })
}

const functions = [1, 5, 10, 1_000].map(ofSteps)

createServer(serve(functions)).listen(port, '127.0.0.1', async () => {
  await new StepwellClient().sync(functions)
  console.log('ready')
})
