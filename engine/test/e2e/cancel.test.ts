/* Undoing, cancelling, time-outs and what follows a run, through the real engine and the real SDK. */
import { createFunction, StepwellError } from '@stepwell/sdk'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { listen } from '../support/app-server.ts'
import { startSystem, type TestSystem } from '../support/system.ts'

let system: TestSystem
beforeAll(async () => {
  system = await startSystem()
})
afterAll(() => system.stop())
afterEach(async () => {
  expect(await system.brokenInvariants()).toEqual([])
})

const FAST = { limit: 1, minDelay: 1, maxDelay: 1 }

describe('undoing', () => {
  const undone: string[] = []
  const saga = createFunction({
    id: 'saga',
    trigger: { event: 'saga' },
    retries: FAST,
    handler: async ({ event, step }) => {
      await step.run('hotel', () => 'h1', { undo: hotel => void undone.push(`hotel ${hotel}`) })
      await step.run('flight', () => 'f1', { undo: flight => void undone.push(`flight ${flight}`) })
      if (event.data.hold) await step.sleep('hold', '1h')
      if (event.data.broken)
        await step.run('broken', () => 1, {
          undo: () => {
            throw new Error('stuck')
          },
        })
      throw new Error('no seats')
    },
  })

  test('takes back what a failed run has done, last in first out', async () => {
    await system.serveApp([saga])
    undone.length = 0

    const run = await system.runToEnd({ name: 'saga' })

    expect(run).toMatchObject({ state: 'failed', error: { message: 'no seats' } })
    expect(undone).toEqual(['flight f1', 'hotel h1'])
    expect((await system.journal(run.id)).map(entry => 'key' in entry && entry.key)).toEqual([
      false,
      'hotel',
      'flight',
      'undo:flight',
      'undo:hotel',
    ])
  })

  test('goes on when one undo fails, and says so', async () => {
    await system.serveApp([saga])
    undone.length = 0

    const run = await system.runToEnd({ name: 'saga', data: { broken: true } })

    expect(run.error?.message).toBe('no seats [could not be undone: "broken" (stuck)]')
    expect(undone).toEqual(['flight f1', 'hotel h1'])
  })

  test('takes back what a cancelled run has done', async () => {
    await system.serveApp([saga])
    undone.length = 0
    const run = await system.start('saga', { hold: true })
    await system.waitForState(run, 'waiting')

    await system.client.cancel(run)

    expect(await system.waitForState(run, 'cancelled')).toMatchObject({ state: 'cancelled' })
    expect(undone).toEqual(['flight f1', 'hotel h1'])
  })

  test('takes back what was under way when another branch failed', async () => {
    const effects: string[] = []
    let startBooking = () => {}
    const isBooking = new Promise<void>(resolve => {
      startBooking = resolve
    })
    const branches = createFunction({
      id: 'branches',
      trigger: { event: 'branches' },
      handler: ({ step }) =>
        Promise.all([
          step.run('hotel', () => isBooking.then(() => Promise.reject(new Error('full'))), { retries: 0 }),
          step.run(
            'flight',
            async ({ signal }) => {
              const isTold = new Promise(resolve => signal.addEventListener('abort', resolve))
              startBooking()
              await isTold
              effects.push('booked')
            },
            { undo: () => void effects.push('undone') },
          ),
        ]),
    })
    await system.serveApp([branches])

    const run = await system.runToEnd({ name: 'branches' })

    expect(run).toMatchObject({ state: 'failed', error: { message: 'full' } })
    expect(effects).toEqual(['booked', 'undone'])
  })
})

describe('a run is cancelled', () => {
  test('while a body runs: it is told so', async () => {
    let isAborted = false
    const busy = createFunction({
      id: 'busy',
      trigger: { event: 'busy' },
      handler: ({ step }) =>
        step.run(
          'work',
          ({ signal }) =>
            new Promise(resolve =>
              signal.addEventListener('abort', () => {
                isAborted = true
                resolve(1)
              }),
            ),
        ),
    })
    await system.serveApp([busy])
    const run = await system.start('busy')
    await system.waitForState(run, 'running')

    await system.client.cancel(run)

    expect(await system.waitForState(run, 'cancelled')).toMatchObject({ state: 'cancelled' })
    expect(isAborted).toBe(true)
  }, 15_000)

  test('by an event that its function names', async () => {
    const ship = createFunction({
      id: 'ship',
      trigger: { event: 'ship' },
      cancelOn: [{ event: 'order.cancelled', match: { 'order.id': 'orderId' } }],
      handler: ({ step }) => step.sleep('packing', '1h'),
    })
    await system.serveApp([ship])
    const [one, two] = [await system.start('ship', { orderId: 1 }), await system.start('ship', { orderId: 2 })]
    await system.waitForState(one, 'waiting')

    await system.client.send({ name: 'order.cancelled', data: { order: { id: 1 } } })

    const cancelled = await system.waitForState(one, 'cancelled')
    expect(cancelled.error?.message).toContain('order.cancelled')
    expect((await system.client.getRun(two)).state).toBe('waiting')
  })

  test('when it takes too long, and what follows is told why', async () => {
    let told: unknown
    const late = createFunction({
      id: 'late',
      trigger: { event: 'late' },
      timeouts: { finish: 50 },
      onCancel: async ({ event, error, endedRun, step }) => {
        await step.run('note', () => {
          told = [event.data, error.message, endedRun]
        })
      },
      handler: ({ step }) => step.sleep('long', '1h'),
    })
    await system.serveApp([late])
    const run = await system.start('late', { a: 1 })

    expect(await system.waitForState(run, 'cancelled')).toMatchObject({ state: 'cancelled' })
    await expect.poll(() => told).toEqual([{ a: 1 }, expect.stringContaining('did not finish'), run])
  })

  test('the moment that its time is up, whoever has started it', async () => {
    const late = createFunction({
      id: 'too-late',
      trigger: { event: 'late.wanted' },
      timeouts: { finish: 30 },
      handler: ({ step }) => step.sleep('long', '1h'),
    })
    const starter = createFunction({
      id: 'starter',
      trigger: { event: 'starter' },
      handler: async ({ step }) => {
        await step.sendEvent('by event', { name: 'late.wanted' })
        await step.invoke('as a child', { function: late }).catch(() => {})
      },
    })
    await system.serveApp([late, starter])

    // Looked for every half second at the latest: several in a row do not all hit that moment.
    for (let n = 0; n < 3; n += 1) {
      await system.waitForState(await system.start('late.wanted'), 'cancelled')
      await system.runToEnd({ name: 'starter' })
    }

    const [late3x3] = await system.engine.pools.read<{ count: number; seconds: number }[]>`
      select count(*)::int as count, extract(epoch from sum(finished_at - created_at))::float8 as seconds
      from stepwell.runs_done where function = 'too-late'`
    expect(late3x3).toMatchObject({ count: 9 })
    expect(late3x3?.seconds).toBeLessThan(1.5)
  })

  test('and the children of its children follow at once', async () => {
    const leaf = createFunction({ id: 'leaf', handler: ({ step }) => step.sleep('long', '1h') })
    const branch = createFunction({ id: 'branch', handler: ({ step }) => step.invoke('leaf', { function: leaf }) })
    const tree = createFunction({
      id: 'tree',
      trigger: { event: 'tree' },
      handler: async ({ step }) => {
        await step.invoke('branch', { function: branch })
      },
    })
    await system.serveApp([tree, branch, leaf])

    let tookMs = 0
    for (let n = 0; n < 3; n += 1) {
      const run = await system.start('tree')
      const below = await system.childOf(await system.childOf(run))
      await system.waitForState(below, 'waiting')
      const askedAtMs = performance.now()
      await system.client.cancel(run)
      await system.waitForState(below, 'cancelled')
      tookMs += performance.now() - askedAtMs
    }

    expect(tookMs).toBeLessThan(1_500)
  })

  test('by the next event of the kind that started it, and not by its own', async () => {
    const newest = createFunction({
      id: 'newest',
      trigger: { event: 'doc.changed' },
      cancelOn: [{ event: 'doc.changed', match: { doc: 'doc' } }],
      handler: ({ step }) => step.sleep('settle', '1h'),
    })
    await system.serveApp([newest])
    const changes = ['a', 'b', 'a'].map(doc => ({ name: 'doc.changed', data: { doc } }))

    const [first, other, last] = (await system.client.send(changes)).flatMap(({ runs }) => runs)

    await system.waitForState(first as string, 'cancelled')
    for (const run of [other, last]) await system.waitForState(run as string, 'waiting')
  })

  test('when no app begins with it in time, though one holds its turn', async () => {
    const hanging = createFunction({
      id: 'hanging',
      trigger: { event: 'hanging' },
      timeouts: { start: 200 },
      handler: () => 1,
    })
    const app = await system.serveApp([hanging])
    await app.close()
    const deaf = await listen((_request, response) => void response.socket?.destroy(), app.port)
    const run = await system.start('hanging')

    const view = await system.waitForState(run, 'cancelled')

    await deaf.close()
    expect(view.error?.message).toContain('did not start')
  })

  test('by a reason that Postgres cannot hold: refused', async () => {
    const resting = createFunction({
      id: 'resting',
      trigger: { event: 'resting' },
      handler: ({ step }) => step.sleep('rest', '1h'),
    })
    await system.serveApp([resting])
    const run = await system.start('resting')

    await expect(system.client.cancel(run, { reason: 'a\u0000b' })).rejects.toMatchObject({ code: 'body_invalid' })
  })

  test('when it has ended: refused', async () => {
    const quick = createFunction({ id: 'quick', trigger: { event: 'quick' }, handler: () => 1 })
    await system.serveApp([quick])
    const run = await system.runToEnd({ name: 'quick' })

    await expect(system.client.cancel(run.id)).rejects.toBeInstanceOf(StepwellError)
    await expect(system.client.cancel('run_01h455vb4pex5vsknk084sn02q')).rejects.toMatchObject({
      code: 'run_not_found',
    })
  })
})

test('a failed run is followed by what its function says', async () => {
  const reports: unknown[] = []
  const fragile = createFunction({
    id: 'fragile',
    trigger: { event: 'fragile' },
    retries: FAST,
    onFailure: ({ event, error }) => void reports.push([event.data.n, error.message]),
    handler: () => {
      throw new Error('broken')
    },
  })
  await system.serveApp([fragile])

  await system.runToEnd({ name: 'fragile', data: { n: 7 } })

  await expect.poll(() => reports).toEqual([[7, 'broken']])
})
