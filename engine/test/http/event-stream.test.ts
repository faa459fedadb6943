/* The body of a stream: what its reader gets, and what becomes of one that does not read. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { eventStream } from '../../src/http/event-stream.ts'
import { createLog } from '../../src/log.ts'
import type { FollowItem } from '../../src/usecases/follow-run.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function aStream(items: AsyncGenerator<FollowItem, void>) {
  const close = vi.fn(() => void items.return())
  const destroy = vi.fn()
  const body = eventStream(
    { items, close },
    {
      log: createLog('silent'),
      requestId: 'req_1',
      expiresAtMs: null,
      outgoing: { destroy } as never,
    },
  )
  return { body, close, destroy }
}

async function* list(items: FollowItem[]): AsyncGenerator<FollowItem, void> {
  yield* items
}

const aMessage = (seq: number, data: string): FollowItem => ({
  kind: 'message',
  message: { seq, channel: 'log', data },
})

test('messages, comments and the end are written as the standard says', async () => {
  const { body, close } = aStream(
    list([aMessage(1, '{"a":1}'), { kind: 'idle' }, aMessage(2, '"x"'), { kind: 'end', state: 'completed' }]),
  )

  expect(await new Response(body).text()).toBe(
    'retry: 1000\n\n' +
      'id: 1\nevent: log\ndata: {"a":1}\n\n' +
      ': keep-alive\n\n' +
      'id: 2\nevent: log\ndata: "x"\n\n' +
      'event: stepwell.end\ndata: {"state":"completed"}\n\n',
  )
  expect(close).toHaveBeenCalled()
})

async function* endless(count: { made: number }): AsyncGenerator<FollowItem, void> {
  for (;;) {
    count.made += 1
    yield aMessage(count.made, JSON.stringify('x'.repeat(64 * 1024)))
  }
}

describe('a reader that does not read', () => {
  test('is kept little for, and closed when it takes too long', async () => {
    const count = { made: 0 }
    const { close, destroy } = aStream(endless(count))

    await vi.advanceTimersByTimeAsync(9_000)
    expect(count.made).toBeLessThan(8)
    expect(destroy).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(2_000)

    expect(destroy).toHaveBeenCalledOnce()
    expect(close).toHaveBeenCalled()
    expect(count.made).toBeLessThan(8)
  })

  test('but reads in time goes on', async () => {
    const count = { made: 0 }
    const { body, destroy } = aStream(endless(count))
    const reader = body.getReader()

    for (let round = 0; round < 20; round += 1) {
      await vi.advanceTimersByTimeAsync(5_000)
      for (let n = 0; n < 5; n += 1) await reader.read()
    }

    expect(destroy).not.toHaveBeenCalled()
    expect(count.made).toBeGreaterThan(90)
    await reader.cancel()
  })
})

/** Says one thing and then waits to be closed, as one does that follows a run. */
function aQuietRun() {
  let onClose = () => {}
  const closed = new Promise<void>(resolve => {
    onClose = resolve
  })
  const facts = { isOver: false }
  async function* items(): AsyncGenerator<FollowItem, void> {
    try {
      yield { kind: 'idle' }
      await closed
    } finally {
      facts.isOver = true
    }
  }
  return { facts, following: { items: items(), close: () => onClose() } }
}

const options = { log: createLog('silent'), requestId: 'req_1', expiresAtMs: null, outgoing: undefined }

test('a reader that goes away lets go of the run', async () => {
  const { facts, following } = aQuietRun()
  const reader = eventStream(following, options).getReader()
  await reader.read()
  await reader.read()
  expect(facts.isOver).toBe(false)

  await reader.cancel()
  await vi.advanceTimersByTimeAsync(0)

  expect(facts.isOver).toBe(true)
})

test('a reader that goes away while it is waited for lets go of the run', async () => {
  const { body, close, destroy } = aStream(endless({ made: 0 }))
  await vi.advanceTimersByTimeAsync(1_000)

  await body.cancel()
  await vi.advanceTimersByTimeAsync(20_000)

  expect(close).toHaveBeenCalled()
  expect(destroy).not.toHaveBeenCalled()
})

test('the stream ends when its token expires', async () => {
  const { facts, following } = aQuietRun()
  const body = eventStream(following, { ...options, expiresAtMs: Date.now() + 60_000 })
  let text: string | null = null
  void new Response(body).text().then(read => {
    text = read
  })

  await vi.advanceTimersByTimeAsync(59_000)
  expect(text).toBeNull()
  await vi.advanceTimersByTimeAsync(2_000)

  expect(text).toBe('retry: 1000\n\n: keep-alive\n\n')
  expect(facts.isOver).toBe(true)
})
