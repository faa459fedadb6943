import type { IncomingMessage, ServerResponse } from 'node:http'
import http from 'node:http'
import { Hono } from 'hono'
import { describe, expect, expectTypeOf, test } from 'vitest'
import * as z from 'zod'
import { createFunction, type Json, type Jsonified, StepwellClient, serve } from '../src/index.ts'
import { EngineDouble, KEY } from './engine-double.ts'
import { anEngine } from './harness.ts'

type Events = {
  'user.created': { id: number; at?: string }
  'approval.received': { userId: number }
  ping: undefined
}

interface EventsOfAnInterface {
  ping: { n: number }
}

describe('types of events', () => {
  test('may be declared by an interface', () => {
    createFunction<EventsOfAnInterface>({
      id: 'a',
      trigger: { event: 'ping' },
      handler: ({ event }) => expectTypeOf(event.data).toEqualTypeOf<{ n: number }>(),
    })
  })

  test('come from a map and the name of the trigger', () => {
    createFunction<Events, 'user.created'>({
      id: 'a',
      trigger: { event: 'user.created' },
      handler: async ({ event, step }) => {
        expectTypeOf(event.name).toEqualTypeOf<'user.created'>()
        expectTypeOf(event.data).toEqualTypeOf<{ id: number; at?: string }>()
        const approval = await step.waitForEvent('w', { event: 'approval.received', timeout: '1d' })
        expectTypeOf(approval?.data).toEqualTypeOf<{ userId: number } | undefined>()
        await step.sendEvent('s', { name: 'approval.received', data: { userId: 1 } })
        await step.sendEvent('p', [{ name: 'ping' }])
        // @ts-expect-error: the data of another event
        await step.sendEvent('s', { name: 'approval.received', data: { id: 1 } })
        // @ts-expect-error: there is no such event
        await step.waitForEvent('w', { event: 'approval.denied' })
      },
    })
    // @ts-expect-error: there is no such event
    createFunction<Events, 'user.deleted'>({ id: 'a', trigger: { event: 'user.deleted' }, handler: () => 1 })
  })

  test('say what JSON leaves of the data', () => {
    type Dated = { 'user.created': { at: Date; tags?: Date[] }; moved: { to: URL } }
    createFunction<Dated, 'user.created'>({
      id: 'a',
      trigger: { event: 'user.created' },
      handler: async ({ event, step }) => {
        expectTypeOf(event.data).toEqualTypeOf<{ at: string; tags?: string[] }>()
        const moved = await step.waitForEvent('w', { event: 'moved' })
        expectTypeOf(moved?.data.to).toEqualTypeOf<string | undefined>()
        await step.sendEvent('s', { name: 'user.created', data: { at: new Date() } })
      },
    })
  })

  test('are a union that the name tells apart when no name is given', () => {
    createFunction<Events>({
      id: 'a',
      trigger: { event: 'user.created' },
      handler: ({ event }) => {
        if (event.name === 'approval.received') expectTypeOf(event.data).toEqualTypeOf<{ userId: number }>()
      },
    })
  })

  test('come from a Standard Schema', () => {
    const schema = z.object({ id: z.coerce.number(), tags: z.array(z.string()).default([]) })
    createFunction({
      id: 'a',
      trigger: { event: 'user.created', schema },
      handler: async ({ event, step }) => {
        expectTypeOf(event.data).toEqualTypeOf<{ id: number; tags: string[] }>()
        expectTypeOf(event.name).toEqualTypeOf<'user.created'>()
        const dated = await step.waitForEvent('d', { event: 'x', schema: z.object({ at: z.coerce.date() }) })
        expectTypeOf(dated?.data.at).toEqualTypeOf<Date | undefined>()
        const waited = await step.waitForEvent('w', { event: 'x', schema: z.object({ ok: z.boolean() }) })
        expectTypeOf(waited?.data).toEqualTypeOf<{ ok: boolean } | undefined>()
      },
    })
  })

  test('are open when none are declared: the sample compiles as it stands', () => {
    createFunction({
      id: 'onboarding',
      trigger: { event: 'user.created' },
      handler: async ({ event, step }) => {
        const user = await step.run('load-user', () => find(event.data.id))
        expectTypeOf(user).toEqualTypeOf<{ id: number; name: string }>()
        const ok = await step.waitForEvent('approve', { event: 'approval.received', match: { userId: user.id } })
        return { approved: ok !== null }
      },
    })
  })

  test('hold for the client too', () => {
    const client = new StepwellClient<Events>({ url: 'http://a', signingKey: KEY })
    const send = () => client.send({ name: 'user.created', data: { id: 1 } })
    // @ts-expect-error: the id is a number
    const sendWrongly = () => client.send({ name: 'user.created', data: { id: '1' } })
    expectTypeOf(send).returns.resolves.toEqualTypeOf<{ id: string; runs: string[] }[]>()
    void sendWrongly
  })
})

describe('what a step gives back', () => {
  test('is what JSON leaves of it', () => {
    expectTypeOf<Jsonified<Date>>().toEqualTypeOf<string>()
    expectTypeOf<Jsonified<{ at: Date; f: () => void; n?: number }>>().toEqualTypeOf<{ at: string; n?: number }>()
    expectTypeOf<Jsonified<[Date, 1]>>().toEqualTypeOf<[string, 1]>()
    expectTypeOf<Jsonified<readonly Date[]>>().toEqualTypeOf<string[]>()
    expectTypeOf<Jsonified<Date | null>>().toEqualTypeOf<string | null>()
    expectTypeOf<Jsonified<undefined>>().toEqualTypeOf<undefined>()
    expectTypeOf<Jsonified<unknown>>().toEqualTypeOf<unknown>()
    expectTypeOf<Jsonified<Json>>().toEqualTypeOf<Json>()
    expectTypeOf<Jsonified<URL>>().toEqualTypeOf<string>()
    const nothing = () =>
      createFunction({ id: 'a', trigger: { event: 'b' }, handler: ({ step }) => step.run('c', () => {}) })
    void nothing
  })

  test('is typed in a handler', () => {
    createFunction({
      id: 'a',
      trigger: { event: 'b' },
      handler: async ({ step }) => {
        const user = await step.run('u', async () => ({ id: 1, at: new Date() }))
        expectTypeOf(user).toEqualTypeOf<{ id: number; at: string }>()
        const nothing = await step.run('n', () => {})
        expectTypeOf(nothing).toEqualTypeOf<undefined>()
        const ids = await step.sendEvent('s', { name: 'x' })
        expectTypeOf(ids).toEqualTypeOf<string[]>()
        // @ts-expect-error: a typo in a duration
        await step.sleep('s', '2dd').catch(() => {})
      },
    })
  })
})

test('one endpoint fits hono, node:http, express and fetch handlers', () => {
  const endpoint = serve([createFunction({ id: 'a', trigger: { event: 'b' }, handler: () => 1 })], { signingKey: KEY })
  type ExpressHandler = (req: IncomingMessage & { body: unknown }, res: ServerResponse, next: () => void) => void
  new Hono().post('/api/stepwell', endpoint).all('/other', endpoint)
  http.createServer(endpoint)
  expectTypeOf(endpoint).toExtend<ExpressHandler>()
  expectTypeOf(endpoint).toExtend<(request: Request) => Promise<Response>>()
})

describe('a schema is checked when an event is received', () => {
  const user = z.object({ id: z.number(), tags: z.array(z.object({ name: z.string() })).default([]) })

  async function runWith(schema: z.ZodType<{ id: number }>, data: unknown, open: EngineDouble[] = []) {
    const handler = ({ event }: { event: { data: { id: number } } }) => event.data
    const definition = createFunction({ id: 'fn', trigger: { event: 'user.created', schema }, handler })
    const engine = await new EngineDouble(serve([definition], { signingKey: KEY })).open()
    open.push(engine)
    const run = engine.start('fn', { name: 'user.created', data: data as Json })
    const report = await engine.turn(run)
    await engine.close()
    return { run, report }
  }

  test('and the handler sees what the schema gives', async () => {
    expect((await runWith(user, { id: 1, extra: true })).run.ended).toEqual({ output: { id: 1, tags: [] } })
  })

  test('and the run fails, with the path, when it does not fit', async () => {
    const { run } = await runWith(user, { id: 1, tags: [{ name: 'a' }, { name: 2 }] })

    expect(run.ended?.error).toMatchObject({ code: 'event_data_invalid' })
    expect(run.ended?.error?.message).toMatch(/"user\.created".*data\.tags\[1\]\.name/)
  })

  test('also when it is asynchronous', async () => {
    const schema = user.refine(async ({ id }) => (await Promise.resolve(id)) > 10, {
      path: ['id'],
      message: 'is taken',
    })

    expect((await runWith(schema, { id: 11 })).run.ended).toEqual({ output: { id: 11, tags: [] } })
    expect((await runWith(schema, { id: 1 })).run.ended?.error?.message).toContain('data.id: is taken')
  })

  test('also when it throws', async () => {
    const schema = user.transform(() => {
      throw new Error('schema broke')
    })

    expect((await runWith(schema, { id: 1 })).run.ended?.error?.message).toContain('schema broke')
  })

  test('a run that has begun is not failed by a schema that became stricter', async () => {
    const build = (schema: z.ZodType<{ id: number }>) =>
      serve(
        [
          createFunction({
            id: 'fn',
            trigger: { event: 'user.created', schema },
            handler: ({ step }) => step.sleep('rest', '1h'),
          }),
        ],
        { signingKey: KEY },
      )
    const engine = await new EngineDouble(build(user)).open()
    const run = engine.start('fn', { name: 'user.created', data: { id: 1 } })
    await engine.turn(run)
    engine.deploy(build(user.refine(() => false)))

    const report = await engine.turn(run)
    await engine.close()

    expect(report).toMatchObject({ state: 'refused', error: { code: 'event_data_invalid' } })
    expect(run.ended).toBeNull()
  })

  test.each([false, true])('in a wait: it rejects with the path (asynchronous: %s)', async isAsync => {
    const ok = z.object({ ok: z.boolean() })
    const schema = isAsync ? ok.refine(async () => Promise.resolve(true)) : ok
    const engine = await anEngine(async ({ step }) => {
      const good = await step.waitForEvent('good', { event: 'answer', schema })
      const bad = await step.waitForEvent('bad', { event: 'answer', schema }).catch((error: Error) => error.message)
      return [good?.data, bad]
    })
    const run = engine.start('fn')
    await engine.turn(run)
    run.sendEvent({ name: 'answer', data: { ok: true, extra: 1 } })
    await engine.turn(run)
    run.sendEvent({ name: 'answer', data: { ok: 'yes' } })
    await engine.turn(run)

    expect(run.ended?.output).toEqual([{ ok: true }, expect.stringContaining('data.ok')])
  })
})

test('a schema that takes its time does not let the entries that follow overtake', async () => {
  const schema = z.object({}).refine(() => new Promise<boolean>(resolve => setTimeout(resolve, 10, true)))
  const engine = await anEngine(({ step }) =>
    Promise.race([
      step.waitForEvent('answer', { event: 'answer', schema }).then(() => 'event'),
      step.sleep('limit', '1h').then(() => 'timer'),
    ]),
  )
  const run = engine.start('fn')
  await engine.turn(run)
  run.sendEvent({ name: 'answer', data: {} })
  run.letNextDueArrive()

  await engine.turn(run)

  expect(run.types().slice(-2)).toEqual(['wait_matched', 'sleep_completed'])
  expect(run.ended).toEqual({ output: 'event' })
})

function find(id: number): { id: number; name: string } {
  return { id, name: 'Ada' }
}
