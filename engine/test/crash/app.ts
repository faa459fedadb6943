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

/** Waited for, and done. */
const kid = createFunction<{ job: string }, string>({
  id: 'kid',
  handler: async ({ event, step }) => {
    await step.run('play', () => enter(event.data.job, 'kid'))
    return `${event.data.job} played`
  },
})

/** Waited for, and cancelled with who waits. */
const sleeper = createFunction({ id: 'sleeper', handler: ({ step }) => step.sleep('long', '1h') })

const family = createFunction<{ 'family.start': { job: string; played?: string } }, 'family.start'>({
  id: 'family',
  trigger: { event: 'family.start' },
  retries: { limit: 5, minDelay: 10, maxDelay: 50 },
  onCancel: ({ event, step }) => step.run('follow', () => enter(event.data.job, 'followed')),
  handler: async ({ event, step, run }) => {
    const { job } = event.data
    if (run.generation === 1) {
      const played = await step.invoke('kid', { function: kid, data: { job } })
      await step.run('book', () => enter(job, 'booked'), { undo: () => enter(job, 'unbooked') })
      await step.waitForSignal('approval', 'approve')
      return step.continueAsNew({ job, played })
    }
    step.setStatus({ played: event.data.played ?? null })
    await step.run('book again', () => enter(job, 'booked again'), { undo: () => enter(job, 'unbooked again') })
    return step.invoke('sleeper', { function: sleeper })
  },
})

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

const functions = [work, echo, family, kid, sleeper]

createServer((request, response) => {
  if (request.method === 'GET') response.end('ok')
  else void serving(request, response)
}).listen(Number(PORT), '127.0.0.1', () => {
  // Not awaited: the engine may be down while we start; its workspace knows us from before.
  new StepwellClient().sync(functions).catch(error => console.error(String(error)))
})
const serving = serve(functions)
