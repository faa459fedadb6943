/** What middleware makes of everything that leaves and enters the app. */
import type { Json } from '@stepwell/protocol'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createFunction, type Middleware, type Payload, serve } from '../src/index.ts'
import { ENCRYPTION_KEY, encryption } from './encryption.ts'
import { EngineDouble, KEY } from './engine-double.ts'
import { anApp, anEngine, type Handler } from './harness.ts'
import { aClient, rest } from './rest-double.ts'

afterEach(() => void vi.restoreAllMocks())

const sealed = (value: Json, kind: Payload['kind'], name: string | null = null) =>
  encryption().encode(value, { kind, name })

/** Everything that this engine has got and keeps. */
function seenBy(engine: EngineDouble): string {
  return JSON.stringify([engine.batches, engine.turns, [...engine.runs.values()].map(run => [run.journal, run.ended])])
}

describe('with encryption', () => {
  test('the engine sees no payload, and the handler nothing else', async () => {
    const seen: unknown[] = []
    const engine = await anEngine(
      async ({ event, step }) => {
        step.setStatus('status-secret')
        const output = await step.run('charge', () => ({ card: 'output-secret' }))
        await step.sendEvent('tell', { name: 'told', data: 'sent-secret' })
        const child = await step.invoke('ask', { function: 'child', data: { q: 'invoke-secret' } })
        const waited = await step.waitForEvent('wait', { event: 'test.sent' })
        const signal = await step.waitForSignal('listen', 'word')
        seen.push([event.data, output, child, waited?.data, signal?.data])
        return 'return-secret'
      },
      { middleware: [encryption()] },
    )
    const run = engine.start('fn', { data: sealed('event-secret', 'event', 'test.started') })

    await engine.drive(run)
    run.inbox.push({ type: 'child_completed', key: 'ask', data: sealed('child-secret', 'result') })
    await engine.drive(run)
    run.sendEvent({ data: sealed('waited-secret', 'event', 'test.sent') })
    await engine.drive(run)
    const message = {
      id: 's',
      name: 'word',
      data: sealed('signal-secret', 'signal', 'word'),
      ts: '2026-01-01T00:00:00Z',
    }
    run.inbox.push({ type: 'signal_received', key: 'listen', data: message })
    await engine.drive(run)

    const values = ['event-secret', { card: 'output-secret' }, 'child-secret', 'waited-secret', 'signal-secret']
    expect(seen).toEqual([values])
    expect(seenBy(engine)).not.toContain('secret')
    expect(run.status).toEqual({ sealed: expect.any(String) })
    expect(encryption().decode(run.ended?.output as Json, { kind: 'result', name: null })).toBe('return-secret')
    const ops = engine.batches.flatMap(batch => batch.reports.flatMap(report => report.ops))
    const told = ops.find(op => op.op === 'send')?.events[0]
    expect(encryption().decode(told?.data ?? null, { kind: 'event', name: 'told' })).toBe('sent-secret')
  })

  test('what a child is invoked with is what its event carries', async () => {
    const ofParent = await anEngine(({ step }) => step.invoke('ask', { function: 'child', data: 'secret' }), {
      middleware: [encryption()],
    })
    const parent = await ofParent.drive(ofParent.start('fn'))
    const op = ofParent.turns.flatMap(({ report }) => report.ops).find(({ op }) => op === 'invoke')

    const ofChild = await anEngine(({ event }) => event.data, { middleware: [encryption()] })
    const data = op?.op === 'invoke' ? (op.data ?? null) : null
    const child = await ofChild.drive(ofChild.start('fn', { name: 'stepwell.invoked', data }))
    parent.inbox.push({ type: 'child_completed', key: 'ask', data: child.ended?.output as Json })
    await ofParent.drive(parent)

    expect(encryption().decode(parent.ended?.output as Json, { kind: 'result', name: null })).toBe('secret')
    expect(seenBy(ofParent) + seenBy(ofChild)).not.toContain('secret')
  })

  test('a run goes on anew with what it was given', async () => {
    const engine = await anEngine(
      ({ event, step }) => (event.data === 'second-secret' ? 'done' : step.continueAsNew('second-secret')),
      { middleware: [encryption()] },
    )
    const run = engine.start('fn', { data: 'first' })

    await engine.turn(run)
    expect(JSON.stringify(run.journal)).not.toContain('secret')
    await engine.drive(run)

    expect(run.generation).toBe(2)
    expect(run.ended).toMatchObject({ output: { sealed: expect.any(String) } })
  })

  test('an undo gets the output as the body gave it, in the same turn and in a later one', async () => {
    const undone: unknown[] = []
    const engine = await anEngine(
      async ({ step }) => {
        await step.run('early', () => 'early-output', { undo: output => void undone.push(output) })
        await step.sleep('rest', '1s')
        await step.run('late', () => 'late-output', { undo: output => void undone.push(output) })
        throw new Error('no')
      },
      { middleware: [encryption()] },
    )

    await engine.drive(engine.start('fn'))

    expect(undone).toEqual(['late-output', 'early-output'])
    expect(seenBy(engine)).not.toContain('-output')
  })

  test('a function that follows a failure sees the event that the failed run had', async () => {
    const seen: unknown[] = []
    const definition = createFunction({
      id: 'fn',
      trigger: { event: 'test.started' },
      handler: () => {},
      onFailure: ({ event, error, endedRun }) => void seen.push([event.data, error.message, endedRun]),
    })
    const engine = await new EngineDouble(serve([definition], { signingKey: KEY, middleware: [encryption()] })).open()
    const event = {
      id: 'e',
      name: 'test.started',
      data: sealed('secret', 'event', 'test.started'),
      ts: '2026-01-01T00:00:00Z',
    }
    const data = { run: 'run_x', function: 'fn', error: { name: 'Error', message: 'why' }, event }

    await engine.drive(engine.start('fn.on-failure', { name: 'stepwell.run.failed', data: data as never }))
    await engine.close()

    expect(seen).toEqual([['secret', 'why', 'run_x']])
  })

  test('a status that is said again is not sent again, although it would be written otherwise', async () => {
    const engine = await anEngine(
      async ({ step }) => {
        step.setStatus('packing')
        await step.sleep('rest', '1s')
        step.setStatus('packing')
        await step.run('pack', () => 1)
      },
      { middleware: [encryption()] },
    )

    await engine.drive(engine.start('fn'))

    const reports = [...engine.batches.flatMap(batch => batch.reports), ...engine.turns.map(({ report }) => report)]
    expect(reports.filter(report => report.status !== undefined)).toHaveLength(1)
  })

  test('payloads that nobody has sealed come in as they are', async () => {
    const engine = await anEngine(({ event }) => event.data, { middleware: [encryption()] })
    const run = engine.start('fn', { data: 'from elsewhere' })

    await engine.drive(run)

    expect(encryption().decode(run.ended?.output as Json, { kind: 'result', name: null })).toBe('from elsewhere')
  })
})

describe('payloads', () => {
  /** Marks what goes through it. */
  const marking = (mark: string): Middleware => ({
    name: mark,
    encode: value => [mark, value],
    decode: value => (Array.isArray(value) && value[0] === mark ? (value[1] ?? null) : value),
  })

  test('are encoded by the last middleware first, and decoded by the first one first', async () => {
    const engine = await anEngine(({ step }) => step.run('a', () => 'x'), {
      middleware: [marking('outer'), marking('inner')],
    })
    const run = await engine.drive(engine.start('fn'))

    expect(run.journal[1]).toMatchObject({ data: ['outer', ['inner', 'x']] })
    expect(run.ended).toEqual({ output: ['outer', ['inner', 'x']] })
  })

  test('come to the handler the same way live as on every replay', async () => {
    const seen: unknown[] = []
    const changing: Middleware = { decode: value => ({ value, isDecoded: true }) }
    const engine = await anEngine(
      async ({ step }) => {
        seen.push(await step.run('a', () => new Date(0)))
        await step.sleep('rest', '1s')
      },
      { middleware: [changing] },
    )

    await engine.drive(engine.start('fn'))

    const expected = { value: '1970-01-01T00:00:00.000Z', isDecoded: true }
    expect(seen).toEqual([expected, expected])
  })

  test('are JSON for middleware, whatever the body gave', async () => {
    const given: unknown[] = []
    const looking: Middleware = {
      encode: value => {
        given.push(value)
        return value
      },
    }
    const engine = await anEngine(({ step }) => step.run('a', () => ({ at: new Date(0), no: undefined })), {
      middleware: [looking],
    })

    await engine.drive(engine.start('fn'))

    expect(given).toEqual([{ at: '1970-01-01T00:00:00.000Z' }, { at: '1970-01-01T00:00:00.000Z' }])
  })

  test('that are not there go through nothing: steps and handlers that give undefined', async () => {
    const encode = vi.fn((value: Json) => value)
    const engine = await anEngine(({ step }) => step.run('a', () => undefined), { middleware: [{ encode }] })
    const run = await engine.drive(engine.start('fn'))

    expect(encode).not.toHaveBeenCalled()
    expect(run.ended).toEqual({})
  })

  test('of events without data are an empty object, as the engine would make of them', async () => {
    const engine = await anEngine(
      async ({ step }) => {
        await step.sendEvent('tell', { name: 'told' })
        await step.invoke('start', { function: 'child', detached: true })
      },
      { middleware: [marking('m')] },
    )

    await engine.drive(engine.start('fn'))

    const ops = engine.batches.flatMap(batch => batch.reports.flatMap(report => report.ops))
    const data = ops.map(op => (op.op === 'send' ? op.events[0]?.data : op.op === 'invoke' && op.data))
    expect(data).toEqual([
      ['m', {}],
      ['m', {}],
    ])
  })

  test('are as large as what is recorded of them', async () => {
    const growing: Middleware = { encode: value => [value, 'x'.repeat(1024 * 1024)] }
    const engine = await anEngine(({ step }) => step.run('a', () => 'x'.repeat(100_000)), { middleware: [growing] })
    const run = await engine.drive(engine.start('fn'))

    expect(run.ended?.error).toMatchObject({ code: 'step_output_too_large' })
  })
})

describe('a middleware that cannot', () => {
  const broken = (part: 'encode' | 'decode', kind: Payload['kind']): Middleware => ({
    name: 'broken',
    [part]: (value: Json, payload: Payload) => {
      if (payload.kind === kind) throw new Error('no key')
      return value
    },
  })

  const everything: Handler = async ({ step }) => {
    step.setStatus('on its way')
    await step.run('charge', () => 'output')
    await step.sendEvent('tell', { name: 'told' }).catch(() => {})
    return 'result'
  }

  test.each([
    ['encode', 'status', /"encode" of middleware "broken" threw an error about the status of a run: no key/],
    ['encode', 'output', /about the output "charge": no key/],
    ['decode', 'output', /"decode" of middleware "broken" .* the output "charge": no key/],
    ['encode', 'event', /about the event "told": no key/],
    ['decode', 'event', /about the event "test.started": no key/],
    ['encode', 'result', /about the result of a run: no key/],
  ] as const)(
    '%s a payload of kind %s has its turn refused, and the run goes on when it can',
    async (part, kind, message) => {
      const engine = await anEngine(everything, { middleware: [broken(part, kind)] })
      const run = engine.start('fn')

      await engine.drive(run)

      const { report } = engine.turns.at(-1) ?? {}
      expect(report).toMatchObject({ state: 'refused', ops: [], error: { code: 'middleware_failed' } })
      expect(report?.error?.message).toMatch(message)
      expect(run.ended).toBeNull()

      engine.deploy(anApp(everything))
      await engine.drive(run)
      expect(run.ended).toEqual({ output: 'result' })
    },
  )

  test('encode on a replay what it could before has that turn refused, and not for another journal', async () => {
    const middleware = [broken('encode', 'event')]
    const telling: Handler = async ({ step }) => {
      await step.sendEvent('tell', { name: 'told' })
      await step.sleep('rest', '1s')
    }
    const engine = await anEngine(telling)
    const run = engine.start('fn')
    await engine.turn(run)

    engine.deploy(anApp(telling, { middleware }))
    const report = await engine.turn(run)

    expect(run.types()).toContain('events_sent')
    expect(report).toMatchObject({ state: 'refused', error: { code: 'middleware_failed' } })
  })

  test('decode what an acknowledgement brings ends the turn, and the next one says why', async () => {
    const engine = await anEngine(
      async ({ step }) => {
        const waiting = step.waitForSignal('listen', 'word')
        await step.run('charge', () => 1)
        await step.run('ship', () => 2)
        return waiting
      },
      { middleware: [broken('decode', 'signal')] },
    )
    const run = engine.start('fn')
    engine.onReport = report => {
      if (report.ops.some(op => 'key' in op && op.key === 'charge')) {
        const message = { id: 's', name: 'word', data: 1, ts: '2026-01-01T00:00:00Z' }
        run.inbox.push({ type: 'signal_received', key: 'listen', data: message })
      }
      return undefined
    }

    const first = await engine.turn(run)
    const second = await engine.turn(run)

    expect(first.state).not.toBe('refused')
    expect(second).toMatchObject({ state: 'refused', error: { code: 'middleware_failed' } })
  })

  test.each([
    ['a promise', async (value: Json) => value, /gave a promise. Payloads are rewritten synchronously/],
    ['nothing', () => undefined, /gave nothing. Return the value/],
    ['no JSON', () => new Map(), /What middleware made of the output "charge" cannot be recorded.*Map/],
  ])('and gives %s is told so', async (_name, encode, message) => {
    const engine = await anEngine(({ step }) => step.run('charge', () => 1), {
      middleware: [{ encode: encode as never }],
    })
    const run = engine.start('fn')

    const report = await engine.turn(run)

    expect(report).toMatchObject({ state: 'refused', error: { message: expect.stringMatching(message) } })
  })

  test('read the key of somebody else refuses the turn before anything runs', async () => {
    const body = vi.fn()
    const engine = await anEngine(({ step }) => step.run('a', body), { middleware: [encryption(Buffer.alloc(32, 1))] })

    const report = await engine.turn(engine.start('fn', { data: sealed('secret', 'event', 'test.started') }))

    expect(ENCRYPTION_KEY).not.toEqual(Buffer.alloc(32, 1))
    expect(report).toMatchObject({ state: 'refused', error: { code: 'middleware_failed' } })
    expect(body).not.toHaveBeenCalled()
  })
})

describe('a client with middleware', () => {
  const client = () => aClient({ middleware: [encryption()] })

  test('seals events and messages', async () => {
    rest.answers = [
      { status: 202, body: { events: [{ id: 'e', runs: [] }] } },
      { status: 202, body: { id: 's' } },
    ]

    await client().send({ name: 'user.created', data: { card: 'secret' } })
    await client().signal('run_1', 'word')

    const bodies = rest.received.map(({ body }) => JSON.parse(body))
    expect(JSON.stringify(bodies)).not.toContain('secret')
    const [sent, message] = [bodies[0].events[0], bodies[1]]
    expect(encryption().decode(sent.data, { kind: 'event', name: 'user.created' })).toEqual({ card: 'secret' })
    expect(encryption().decode(message.data, { kind: 'signal', name: 'word' })).toEqual({})
  })

  test('opens the results and the status of runs, and their journals', async () => {
    const run = {
      id: 'run_1',
      state: 'completed',
      output: sealed('result', 'result'),
      status: sealed('done', 'status'),
    }
    const at = { turn: 1, at: '2026-01-01T00:00:00.000Z' }
    const entry = { seq: 2, ...at, type: 'step_completed', key: 'a', saw: 1, data: sealed('output', 'output', 'a') }
    rest.answers = [
      { status: 200, body: run },
      { status: 200, body: run },
      { status: 202, body: { events: [{ id: 'e', runs: ['run_1'], ended: [run] }] } },
      { status: 200, body: { run: 'run_1', generation: 1, entries: [entry], next: null } },
    ]

    const got = await client().getRun('run_1')
    const waited = await client().waitForRun('run_1')
    const [sent] = await client().sendAndWait({ name: 'user.created' })
    const journal = await client().getJournal('run_1')

    for (const view of [got, waited, sent]) expect(view).toMatchObject({ output: 'result', status: 'done' })
    expect(journal).toMatchObject([{ data: 'output' }])
  })

  test('leaves what is not there alone', async () => {
    rest.answers = [{ status: 200, body: { id: 'run_1', state: 'running', output: null, status: null } }]
    const decode = vi.fn((value: Json) => value)

    await aClient({ middleware: [{ decode }] }).getRun('run_1')

    expect(decode).not.toHaveBeenCalled()
  })

  test('sends nothing that it cannot seal', async () => {
    const failing: Middleware = {
      name: 'vault',
      encode: () => {
        throw new Error('no key')
      },
    }

    const sending = aClient({ middleware: [failing] }).send({ name: 'user.created' })

    await expect(sending).rejects.toMatchObject({
      code: 'middleware_failed',
      message: expect.stringContaining('"vault"'),
    })
    expect(rest.received).toEqual([])
  })
})
