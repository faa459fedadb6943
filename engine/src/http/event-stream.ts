/*
 * What follows a run, as `text/event-stream`. What a reader does not take in time is not kept for it: a stream whose buffer is
 * full for too long is closed, and the reader goes on from its cursor.
 */
import type { ServerResponse } from 'node:http'
import { LIMITS, STREAM_END } from '@stepwell/protocol'
import type { Log } from '../log.ts'
import type { FollowItem, Following } from '../usecases/follow-run.ts'

/** A comment is sent when there was nothing else for that long: it keeps proxies from closing the connection. */
export const KEEP_ALIVE_MS = 15_000
/** What may wait for a reader, besides the message that it begins with. */
const BUFFER_BYTES = 256 * 1024
const SLOW_READER_MS = 10_000
/** How long a browser's EventSource waits before it comes back. */
const RETRY_MS = 1_000

export interface EventStreamOptions {
  log: Log
  requestId: string
  /** The stream ends then, in Unix milliseconds; null for no such end. */
  expiresAtMs: number | null
  /** What the stream is written to: it is destroyed when its reader does not read. */
  outgoing: Pick<ServerResponse, 'destroy'> | undefined
}

/** The body of the answer. Ends with the items, when it is cancelled, and when the reader is too slow. */
export function eventStream(following: Following, options: EventStreamOptions): ReadableStream<Uint8Array> {
  const room = new Room()
  let isCancelled = false
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const write = (text: string) => {
          controller.enqueue(encoder.encode(text))
          return (controller.desiredSize ?? 0) > 0 ? true : room.comesInTime()
        }
        // Not awaited: the stream is read while it goes on. It does not reject.
        void pump(following, write, options).then(() => {
          if (!isCancelled) controller.close()
        })
      },
      pull: () => room.isThere(),
      cancel() {
        isCancelled = true
        following.close()
        room.isThere()
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: BUFFER_BYTES }) as QueuingStrategy<Uint8Array>,
  )
}

const encoder = new TextEncoder()

/** Writes the items one by one. `write` says, perhaps later, whether the reader is quick enough. */
async function pump(
  following: Following,
  write: (text: string) => boolean | Promise<boolean>,
  options: EventStreamOptions,
): Promise<void> {
  const { log, requestId, expiresAtMs, outgoing } = options
  const leftMs = Math.min(LIMITS.streamTokenMaxMs, (expiresAtMs ?? 0) - Date.now())
  const expiry = expiresAtMs === null ? undefined : setTimeout(() => following.close(), leftMs)
  try {
    let isQuick = await write(`retry: ${RETRY_MS}\n\n`)
    for await (const item of following.items) {
      isQuick = await write(textOf(item))
      if (!isQuick) break
    }
    if (!isQuick) {
      log.info({ requestId }, 'stream of a slow reader cut off')
      outgoing?.destroy()
    }
  } catch (error) {
    // The database, or a reader that went away in this moment. It asks again from its cursor.
    log.warn({ requestId, err: error }, 'stream cut off')
  } finally {
    clearTimeout(expiry)
    following.close()
  }
}

/** Whether the reader makes room before it is given up. */
class Room {
  #onRoom: (() => void) | null = null

  comesInTime(): Promise<boolean> {
    return new Promise(resolve => {
      const timer = setTimeout(() => resolve(false), SLOW_READER_MS)
      this.#onRoom = () => {
        clearTimeout(timer)
        resolve(true)
      }
    })
  }

  isThere(): void {
    this.#onRoom?.()
    this.#onRoom = null
  }
}

/** JSON text has no line feeds, and neither have the names of channels. */
function textOf(item: FollowItem): string {
  switch (item.kind) {
    case 'message':
      return `id: ${item.message.seq}\nevent: ${item.message.channel}\ndata: ${item.message.data}\n\n`
    case 'idle':
      return ': keep-alive\n\n'
    case 'end':
      return `event: ${STREAM_END}\ndata: ${JSON.stringify({ state: item.state })}\n\n`
  }
}
