/*
 * Group commit: one flush in flight, and the next batch is whatever arrived meanwhile. No timer: an idle engine commits
 * at once, a busy one in batches. A caller's promise settles after the commit of the batch that held its item.
 */

export interface GroupCommit<Item, Result> {
  add(item: Item): Promise<Result>
  /** Items that wait for a flush. */
  readonly waiting: number
}

interface Pending<Item, Result> {
  item: Item
  resolve: (result: Result) => void
  reject: (error: unknown) => void
}

/** A buffer of items that `flush` writes together. A batch holds at most `maxItems` and about `maxWeight`. */
export function createGroupCommit<Item, Result>(options: {
  maxItems: number
  maxWeight: number
  weigh: (item: Item) => number
  /** Writes all of them or none. Results in the order of the items. */
  flush: (items: Item[]) => Promise<Result[]>
  /** Whether the whole batch failed for a reason that no single item can have, so that halving it is no use. */
  isHopeless: (error: unknown) => boolean
}): GroupCommit<Item, Result> {
  let queue: Pending<Item, Result>[] = []
  let isFlushing = false

  async function drain(): Promise<void> {
    isFlushing = true
    while (queue.length > 0) await write(takeBatch())
    isFlushing = false
  }

  function takeBatch(): Pending<Item, Result>[] {
    let weight = 0
    let count = 0
    while (count < queue.length && count < options.maxItems) {
      const next = queue[count]
      if (next === undefined) break
      weight += options.weigh(next.item)
      if (count > 0 && weight > options.maxWeight) break
      count += 1
    }
    const batch = queue.slice(0, count)
    queue = queue.slice(count)
    return batch
  }

  /** One item that the database refuses must not take the others with it: a failed batch is split in halves. */
  async function write(batch: Pending<Item, Result>[]): Promise<void> {
    try {
      const results = await options.flush(batch.map(pending => pending.item))
      for (const [index, pending] of batch.entries()) pending.resolve(results[index] as Result)
    } catch (error) {
      if (batch.length === 1 || options.isHopeless(error)) {
        for (const pending of batch) pending.reject(error)
        return
      }
      const middle = Math.ceil(batch.length / 2)
      await write(batch.slice(0, middle))
      await write(batch.slice(middle))
    }
  }

  return {
    add(item) {
      return new Promise<Result>((resolve, reject) => {
        queue.push({ item, resolve, reject })
        // Not awaited: every failure settles the promises of its items.
        if (!isFlushing) void drain()
      })
    },
    get waiting() {
      return queue.length
    },
  }
}

/** One buffer for each key, made when it is first asked for. */
export function createBuffers<Key, Item, Result>(
  create: (key: Key) => GroupCommit<Item, Result>,
): (key: Key) => GroupCommit<Item, Result> {
  const buffers = new Map<Key, GroupCommit<Item, Result>>()
  return function bufferOf(key) {
    let buffer = buffers.get(key)
    if (buffer === undefined) {
      buffer = create(key)
      buffers.set(key, buffer)
    }
    return buffer
  }
}
