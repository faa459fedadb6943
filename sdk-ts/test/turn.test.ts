import { afterEach, describe, expect, test } from 'vitest'
import { createFunction, type HandlerContext, serve, type TypedEvent, type UntypedEvents } from '../src/index.ts'
import { EngineDouble, KEY } from './engine-double.ts'

const engines: EngineDouble[] = []
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close()
})

type Handler = (context: HandlerContext<TypedEvent<UntypedEvents>>) => unknown

function aFunction(handler: Handler, id = 'fn') {
  return createFunction({ id, trigger: { event: 'test.started' }, handler })
}

async function anEngine(...handlers: Handler[]): Promise<EngineDouble> {
  const functions = handlers.map((handler, at) => aFunction(handler, at === 0 ? 'fn' : `fn${at + 1}`))
  const engine = await new EngineDouble(serve(functions, { signingKey: KEY })).open()
  engines.push(engine)
  return engine
}

describe('a turn', () => {
  test('runs the sample of the front page to its end', async () => {
    const mails: unknown[] = []
    const loads: unknown[] = []
    const engine = await anEngine(async ({ event, step }) => {
      const user = await step.run('load-user', () => {
        loads.push(event.data.id)
        return { id: event.data.id, name: 'Ada' }
      })
      await step.sleep('cooldown', '2d')
      const ok = await step.waitForEvent('approve', {
        event: 'approval.received',
        match: { userId: user.id },
        timeout: '7d',
      })
      await step.run('send-email', () => mails.push(user))
      return { approved: ok !== null }
    })
    const run = engine.start('fn', { name: 'user.created', data: { id: 1 } })

    expect((await engine.turn(run)).state).toBe('waiting')
    run.letNextDueArrive()
    expect((await engine.turn(run)).state).toBe('waiting')
    run.sendEvent({ name: 'approval.received', data: { userId: 1 } })
    await engine.turn(run)

    expect(run.ended).toEqual({ output: { approved: true } })
    expect(mails).toEqual([{ id: 1, name: 'Ada' }])
    expect(loads).toEqual([1])
    expect(run.types()).toEqual([
      'run_started',
      'step_completed',
      'sleep_started',
      'sleep_completed',
      'wait_opened',
      'wait_matched',
      'step_completed',
    ])
  })

  test('runs steps one after the other in one turn, each recorded before the next starts', async () => {
    const seen: number[] = []
    const engine = await anEngine(async ({ step }) => {
      for (let at = 0; at < 5; at += 1) {
        await step.run('next', () => {
          seen.push(run.journal.length)
          return at
        })
      }
      return 'end'
    })
    const run = engine.start('fn')

    await engine.turn(run)

    expect(run.ended).toEqual({ output: 'end' })
    expect(seen).toEqual([1, 2, 3, 4, 5])
    expect(run.journal.slice(1).map(entry => 'key' in entry && entry.key)).toEqual([
      'next',
      'next#2',
      'next#3',
      'next#4',
      'next#5',
    ])
  })
})
