/** Run as a process of its own by turn tests: prints what became of handlers whose branches fail unobserved. */
import { createFunction, serve } from '../src/index.ts'
import { EngineDouble, KEY } from './engine-double.ts'

const pause = () => new Promise(resolve => setTimeout(resolve, 20))

const floating = createFunction({
  id: 'floating',
  trigger: { event: 'n' },
  retries: 0,
  handler: async ({ step }) => {
    const fail = async (id: string) => {
      await step.run(id, () => {
        throw new Error(`${id} broke`)
      })
    }
    void step.run('not-awaited', () => {
      throw new Error('not-awaited broke')
    })
    void fail('branch')
    const late = fail('late')
    void (async () => {
      await step.run('mine', () => 1)
      throw new Error('thrown by the handler itself')
    })()
    await Promise.race([step.run('slow', pause), fail('loser')]).catch(() => {})
    await step.run('between', pause)
    return late.catch((error: Error) => `caught ${error.message}`)
  },
})
const outside = createFunction({
  id: 'outside',
  trigger: { event: 'n' },
  handler: async ({ step }) => {
    await step.run('a', async () => {
      void Promise.reject(new Error('not a promise of a handler'))
      await pause()
    })
  },
})

const engine = await new EngineDouble(serve([floating, outside], { signingKey: KEY })).open()
const run = await engine.drive(engine.start(process.argv[2] ?? 'floating'))
console.log(JSON.stringify(run.ended))
await engine.close()
