/* A page follows its run: through the real engine, the real SDK, and real connections. */
import { getRequestListener } from '@hono/node-server'
import { createFunction } from '@stepwell/sdk'
import { type RunMessage, type Subscription, subscribe } from '@stepwell/sdk/browser'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createEngine, type Engine } from '../../src/engine.ts'
import { createHttp } from '../../src/http/app.ts'
import { createLog } from '../../src/log.ts'
import { type ListeningServer, listen } from '../support/app-server.ts'
import { startSystem, type TestSystem } from '../support/system.ts'
import { waitUntil } from '../support/wait-until.ts'

const STREAMS_MAX = 3
const SOON_MS = 4_000

let system: TestSystem
beforeAll(async () => {
  system = await startSystem({ streamsMax: STREAMS_MAX })
})
afterAll(() => system.stop())
const others: { engine: Engine; front: ListeningServer }[] = []
afterEach(async () => {
  for (const { engine, front } of others.splice(0)) {
    await engine.stop(0)
    await front.close()
  }
  expect(await system.brokenInvariants()).toEqual([])
})

/** Another engine on the same database, behind a port of its own. Takes no work until it is started. */
async function anotherEngine(): Promise<{ engine: Engine; front: ListeningServer }> {
  const log = createLog('silent')
  let listener: ReturnType<typeof getRequestListener> | null = null
  const front = await listen((request, response) => listener?.(request, response))
  const engine = createEngine({ connection: system.database.connection, log, selfUrl: front.url })
  listener = getRequestListener(createHttp({ engine, mode: 'start', log }).fetch)
  others.push({ engine, front })
  return { engine, front }
}

async function started(name: string, data: object = {}): Promise<string> {
  const [sent] = await system.client.send({ name, data })
  const run = sent?.runs[0]
  if (run === undefined) throw new Error(`"${name}" started nothing.`)
  return run
}

async function follow(run: string, given: Partial<Parameters<typeof subscribe>[0]> = {}): Promise<Subscription> {
  const { token } = await system.client.createStreamToken(run)
  return subscribe({ url: system.front.url, token, run, ...given })
}

async function all(subscription: Subscription, onMessage: (message: RunMessage) => unknown = () => {}) {
  const data: unknown[] = []
  for await (const message of subscription) {
    data.push(message.data)
    await onMessage(message)
  }
  return data
}

/** Publishes, and goes on when it is told to. */
const guided = createFunction({
  id: 'guided',
  trigger: { event: 'guided' },
  handler: async ({ step }) => {
    for (let n = 1; n <= 3; n += 1) {
      await step.publish('progress', { n })
      await step.waitForSignal('next', 'next')
    }
    void step.publish('progress', { n: 'last' })
    return 'done'
  },
})

/** Publishes a lot, with steps and a sleep between. */
const chatty = createFunction({
  id: 'chatty',
  trigger: { event: 'chatty' },
  handler: async ({ event, step }) => {
    const { first = 0, count } = event.data as { first?: number; count: number }
    for (let n = 0; n < count; n += 1) {
      await step.run('work', () => n)
      await step.publish('log', first + n)
      if (n % 10 === 9) await step.sleep('breath', 5)
    }
    if (first === 0) await step.continueAsNew({ first: count, count })
  },
})
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

describe('a page that follows its run', () => {
  test('sees each message as it is published, and the end', async () => {
    await system.serveApp([guided])
    const run = await started('guided')
    const subscription = await follow(run, { channels: ['progress'] })

    // The next one is not published before this one was seen.
    const data = await all(subscription, ({ data }) => data.n !== 'last' && system.client.signal(run, 'next'))

    expect(data).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }, { n: 'last' }])
    expect(subscription.state).toBe('completed')
  })

  test('sees them all when it comes late, across generations of the run', async () => {
    await system.serveApp([chatty])
    const run = await started('chatty', { count: 20 })
    await system.waitForState(run, 'completed')

    expect(await all(await follow(run))).toEqual(numbers(40))
    expect(await all(await follow(run, { after: 38 }))).toEqual([38, 39])
  })

  test('sees the end of a run that is cancelled while it waits', async () => {
    await system.serveApp([guided])
    const run = await started('guided')
    const subscription = await follow(run)

    const data = await all(subscription, () => system.client.cancel(run))

    expect(data).toEqual([{ n: 1 }])
    expect(subscription.state).toBe('cancelled')
  })

  test('gets each message once and in order, wherever its connection is cut, from whichever engine', async () => {
    await system.serveApp([chatty])
    const { front } = await anotherEngine()
    const run = await started('chatty', { count: 150 })
    let connections = 0
    const cut: typeof fetch = async (url, init) => {
      connections += 1
      const base = connections % 2 === 0 ? front.url : system.front.url
      const answer = await fetch(String(url).replace(system.front.url, base), init)
      let bytesLeft = 400 + 137 * (connections % 7)
      const cutter = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          controller.enqueue(chunk.subarray(0, bytesLeft))
          bytesLeft -= chunk.length
          if (bytesLeft <= 0) controller.error(new Error('cut'))
        },
      })
      return new Response(answer.body?.pipeThrough(cutter), answer)
    }

    expect(await all(await follow(run, { fetch: cut }))).toEqual(numbers(300))
    expect(connections).toBeGreaterThan(10)
  })

  test('goes on at another engine when its own stops in the middle, as does the run', async () => {
    await system.serveApp([chatty])
    const first = await anotherEngine()
    await first.engine.start()
    const run = await started('chatty', { count: 100 })
    const { token } = await system.client.createStreamToken(run)
    let url = first.front.url
    const moving: typeof fetch = (asked, init) => fetch(String(asked).replace(first.front.url, url), init)
    const subscription = subscribe({ url: first.front.url, token, run, fetch: moving })

    const data = await all(subscription, async ({ id }) => {
      if (id !== 20) return
      url = system.front.url
      await first.engine.stop(0)
    })

    expect(data).toEqual(numbers(200))
  })
})

describe('streams over real connections', () => {
  test('are let go of when pages go away', async () => {
    await system.serveApp([guided])
    const run = await started('guided')
    const { token } = await system.client.createStreamToken(run)
    const url = `${system.front.url}/v1/runs/${run}/stream?token=${token}`
    const open = async () => {
      const leave = new AbortController()
      const answer = await fetch(url, { signal: leave.signal })
      return { status: answer.status, leave }
    }
    const pages = await Promise.all(numbers(STREAMS_MAX).map(open))
    expect((await open()).status).toBe(503)

    for (const { leave } of pages) leave.abort()

    await waitUntil('there is room again', async () => {
      const { status, leave } = await open()
      leave.abort()
      return status === 200
    })
    await system.client.cancel(run)
  })

  test('end at once when the engine stops, without the word that the run has ended', async () => {
    await system.serveApp([guided])
    const { engine, front } = await anotherEngine()
    const run = await started('guided')
    const { token } = await system.client.createStreamToken(run)
    const answer = await fetch(`${front.url}/v1/runs/${run}/stream`, { headers: { authorization: `Bearer ${token}` } })
    const text = answer.text()
    await system.waitForState(run, 'waiting')

    const askedAtMs = performance.now()
    await engine.stop(60_000, () => text.then(() => {}))

    expect(performance.now() - askedAtMs).toBeLessThan(SOON_MS)
    expect(await text).not.toContain('stepwell.end')
    await system.client.cancel(run)
  })
})
