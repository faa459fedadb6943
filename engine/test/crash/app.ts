/*
 * The app of the crash tests, as a process of its own: one job with every kind of op, one that it starts by an event.
 * Every execution of a step body is a line in the ledger, written before anything else happens.
 */
import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createFunction, StepwellClient, serve } from '@stepwell/sdk'

const { LEDGER = '', PORT = '' } = process.env

function enter(job: string, step: string): void {
  appendFileSync(LEDGER, `${job} ${step}\n`)
}

type Events = Record<'job.start' | 'job.told' | `job.go.${string}`, { job: string }>

const work = createFunction<Events, 'job.start'>({
  id: 'work',
  trigger: { event: 'job.start' },
  retries: { limit: 5, minDelay: 10, maxDelay: 50 },
  handler: async ({ event, step }) => {
    const { job } = event.data
    await step.run('first', () => enter(job, 'first'))
    const sides = await Promise.all([
      step.run('left', () => {
        enter(job, 'left')
        return 1
      }),
      step.run('right', () => {
        enter(job, 'right')
        return 2
      }),
    ])
    await step.run('flaky', ({ attempt }) => {
      enter(job, 'flaky')
      if (attempt === 1) throw new Error('the first attempt fails')
    })
    await step.sleep('nap', 30)
    const go = await step.waitForEvent('go', { event: `job.go.${job}`, match: { job }, timeout: '1m' })
    await step.sendEvent('tell', { name: 'job.told', data: { job } })
    await step.run('last', () => enter(job, 'last'))
    return { job, sides, gone: go !== null }
  },
})

const echo = createFunction<Events, 'job.told'>({
  id: 'echo',
  trigger: { event: 'job.told' },
  handler: async ({ event, step }) => {
    await step.run('echo', () => enter(event.data.job, 'echo'))
    return event.data
  },
})

createServer((request, response) => {
  if (request.method === 'GET') response.end('ok')
  else void serving(request, response)
}).listen(Number(PORT), '127.0.0.1', () => {
  // Not awaited: the engine may be down while we start; its workspace knows us from before.
  new StepwellClient().sync([work, echo]).catch(error => console.error(String(error)))
})
const serving = serve([work, echo])
