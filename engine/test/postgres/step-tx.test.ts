/* step.tx through the real engine and the real SDK, with every kind of client. */
import { createFunction, NonRetriableError } from '@stepwell/sdk'
import { ensureStepwellTables } from '@stepwell/sdk/postgres'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../database.ts'
import { startSystem, type TestSystem } from '../support/system.ts'
import { waitUntil } from '../support/wait-until.ts'
import { type AppClient, CLIENTS } from './clients.ts'

const FAST = { limit: 2, minDelay: 1, maxDelay: 1 }

let system: TestSystem
let database: TestDatabase
let look: postgres.Sql
beforeAll(async () => {
  system = await startSystem()
  database = await createTestDatabase()
  look = postgres({ ...database.connection, max: 2, onnotice: () => {} })
  await look`create table effects (label text not null)`
  await ensureStepwellTables(look)
})
afterAll(async () => {
  await look?.end()
  await system?.stop()
  await database?.drop()
})

async function effects(): Promise<string[]> {
  return (await look<{ label: string }[]>`select label from effects order by label`).map(row => row.label)
}

async function resultCount(): Promise<number> {
  return (await look`select 1 from stepwell.step_results`).length
}

describe.each(CLIENTS)('step.tx with %s', (name, openClient) => {
  let app: AppClient
  let calls = 0
  beforeEach(async () => {
    calls = 0
    await look`delete from effects`
    await look`delete from stepwell.step_results`
    app = await openClient(database.connection)
  })
  afterEach(async () => {
    await app.end()
    expect(await system.brokenInvariants()).toEqual([])
  })

  /** One run of a function with one transaction. */
  async function runOne(body: (tx: unknown, attempt: number) => unknown) {
    const one = createFunction({
      id: 'one',
      trigger: { event: 'one' },
      retries: FAST,
      handler: async ({ step }) => {
        const value = await step.tx('charge', app.client, (tx: unknown, { attempt }) => {
          calls += 1
          return body(tx, attempt)
        })
        await step.sleep('replayed', 1)
        return { value }
      },
    })
    const served = await system.serveApp([one])
    const run = await system.runToEnd({ name: 'one' })
    await served.close()
    return run
  }

  test('the effect and the recorded result are there together, once', async () => {
    const run = await runOne(async tx => {
      await app.exec(tx, `insert into effects values ('paid')`)
      return { id: 7 }
    })

    expect(run).toMatchObject({ state: 'completed', output: { value: { id: 7 } } })
    expect(await effects()).toEqual(['paid'])
    expect(await look`select run, generation, step, result from stepwell.step_results`).toEqual([
      { run: run.id, generation: 1, step: 'charge', result: '{"id":7}' },
    ])
    expect(calls).toBe(1)
  })

  test('a failing body leaves nothing, and is retried', async () => {
    const run = await runOne(async (tx, attempt) => {
      await app.exec(tx, `insert into effects values ('try ${attempt}')`)
      if (attempt < 3) throw new Error('not yet')
      return attempt
    })

    expect(run).toMatchObject({ state: 'completed', output: { value: 3 } })
    expect(await effects()).toEqual(['try 3'])
    expect(await resultCount()).toBe(1)
  })

  test('a body that fails for good fails its run with its own error', async () => {
    const run = await runOne(async tx => {
      await app.exec(tx, `insert into effects values ('paid')`)
      throw new NonRetriableError('no card')
    })

    expect(run).toMatchObject({ state: 'failed', error: { name: 'NonRetriableError', message: 'no card' } })
    expect(calls).toBe(1)
    expect(await effects()).toEqual([])
    expect(await resultCount()).toBe(0)
  })

  test.each([
    ['nothing', undefined, {}],
    ['null', null, { value: null }],
    ['NUL characters', 'a\u0000b', { value: 'a\u0000b' }],
    ['half a surrogate pair', '\ud800', { value: '\ud800' }],
    ['a date', new Date(0), { value: '1970-01-01T00:00:00.000Z' }],
  ])('an output that is %s comes back as it does from step.run', async (_what, value, output) => {
    expect(await runOne(() => value)).toMatchObject({ state: 'completed', output })
    expect(await resultCount()).toBe(1)
  })

  test.each([
    ['too large', () => 'x'.repeat(1024 * 1024 + 5_000), 'step_output_too_large'],
    ['no JSON', () => new Map([[1, 2]]), 'value_not_json'],
  ])('an output that is %s takes the effect back and is not tried again', async (_what, makeValue, code) => {
    const run = await runOne(async tx => {
      await app.exec(tx, `insert into effects values ('paid')`)
      return makeValue()
    })

    expect(run).toMatchObject({ state: 'failed', error: { code } })
    expect(calls).toBe(1)
    expect(await effects()).toEqual([])
    expect(await resultCount()).toBe(0)
  })

  test('a statement that failed and that nobody looked at does not pass for a commit', async () => {
    const run = await runOne(async tx => {
      await app.exec(tx, `insert into effects values ('paid')`)
      await app.exec(tx, 'select 1 / 0').catch(() => {})
    })

    expect(run.state).toBe('failed')
    expect(calls).toBe(3)
    expect(await effects()).toEqual([])
    expect(await resultCount()).toBe(0)
  })

  test('a connection that dies in the middle costs an attempt, not the process', async () => {
    const run = await runOne(async (tx, attempt) => {
      if (attempt > 1 && name === 'a Client of pg') throw new NonRetriableError('a Client does not connect again')
      await app.exec(tx, `insert into effects values ('try ${attempt}')`)
      if (attempt === 1) await app.exec(tx, 'select pg_terminate_backend(pg_backend_pid())')
      return attempt
    })

    if (name === 'a Client of pg') {
      expect(run.state).toBe('failed')
      expect(await effects()).toEqual([])
    } else {
      expect(run).toMatchObject({ state: 'completed', output: { value: 2 } })
      expect(await effects()).toEqual(['try 2'])
    }
  })

  test('what is recorded already is read back as it was, and the body does not run', async () => {
    const texts = [null, 'null', '"a\\u0000\\ud800"', '{"b":1,"a":[1.5,"é"]}']
    const recorded = createFunction({
      id: 'recorded',
      trigger: { event: 'recorded' },
      handler: async ({ step }) => {
        await step.waitForSignal('go', 'go')
        const outputs: unknown[] = []
        for (const n of texts.keys())
          outputs.push([await step.tx(`step-${n}`, app.client, () => (calls += 1))].pop() ?? null)
        return outputs
      },
    })
    const served = await system.serveApp([recorded])
    const [sent] = await system.client.send({ name: 'recorded' })
    const run = sent?.runs[0] ?? ''
    for (const [n, text] of texts.entries())
      await look`insert into stepwell.step_results (run, generation, step, result) values (${run}, 1, ${`step-${n}`}, ${text})`

    await system.client.signal(run, 'go')

    const ended = await system.waitForState(run, 'completed', 'failed')
    await served.close()
    expect(ended.output).toEqual([null, null, 'a\u0000\ud800', { b: 1, a: [1.5, 'é'] }])
    expect(calls).toBe(0)
  })

  test('steps side by side have a transaction each, and one that fails takes back no other', async () => {
    const parts = [1, 2, 3, 4, 5, 6]
    const many = createFunction({
      id: 'many',
      trigger: { event: 'many' },
      retries: FAST,
      handler: ({ step }) =>
        Promise.all(
          parts.map(n =>
            step.tx(`part-${n}`, app.client, async (tx: unknown, { attempt }) => {
              await app.exec(tx, `insert into effects values ('part ${n}, try ${attempt}')`)
              if (n % 2 === 1 && attempt === 1) throw new Error('not yet')
              return n
            }),
          ),
        ),
    })
    const served = await system.serveApp([many])

    const run = await system.runToEnd({ name: 'many' })

    await served.close()
    expect(run).toMatchObject({ state: 'completed', output: parts })
    expect(await effects()).toEqual(parts.map(n => `part ${n}, try ${1 + (n % 2)}`))
  })

  test('undoing has a transaction as well', async () => {
    const saga = createFunction({
      id: 'saga',
      trigger: { event: 'saga' },
      retries: FAST,
      handler: async ({ step }) => {
        await step.tx(
          'book',
          app.client,
          (tx: unknown) => app.exec(tx, `insert into effects values ('h1')`).then(() => 'h1'),
          {
            undo: async (output, tx: unknown, { attempt }) => {
              await app.exec(tx, `delete from effects where label = '${output}'`)
              await app.exec(tx, `insert into effects values ('undone in try ${attempt}')`)
              if (attempt === 1) throw new Error('not yet')
            },
          },
        )
        throw new Error('no seats')
      },
    })
    const served = await system.serveApp([saga])

    const run = await system.runToEnd({ name: 'saga' })

    await served.close()
    expect(run).toMatchObject({ state: 'failed', error: { message: 'no seats' } })
    expect(await effects()).toEqual(['undone in try 2'])
    const steps = await look`select step from stepwell.step_results order by step`
    expect(steps.map(row => row.step)).toEqual(['book', 'undo:book'])
  })

  test.runIf(name === 'postgres.js')(
    'a run that is cancelled in the middle of a transaction leaves nothing of it',
    async () => {
      let release: (() => void) | null = null
      const long = createFunction({
        id: 'long',
        trigger: { event: 'long' },
        handler: ({ step }) =>
          step.tx('charge', app.client, async (tx: unknown, { signal }) => {
            await app.exec(tx, `insert into effects values ('paid')`)
            await new Promise<void>(resolve => {
              release = resolve
              signal.addEventListener('abort', () => resolve())
            })
            calls += 1
          }),
      })
      const served = await system.serveApp([long])
      const [sent] = await system.client.send({ name: 'long' })
      const run = sent?.runs[0] ?? ''
      await waitUntil('the body runs', () => release !== null)

      await system.client.cancel(run)
      await system.waitForState(run, 'cancelled')
      await waitUntil('the body has ended', () => calls === 1)

      await served.close()
      expect(await effects()).toEqual([])
      expect(await resultCount()).toBe(0)
    },
  )
})
