import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createGroupCommit } from '../../src/usecases/group-commit.ts'

/** A store that can be told to stand still, and notes what it was asked to write. */
function aStore(options: { refuses?: (item: number) => boolean; maxItems?: number; isAway?: boolean } = {}) {
  const batches: number[][] = []
  let open: () => void = () => {}
  let gate: Promise<void> = Promise.resolve()
  const buffer = createGroupCommit<number, string>({
    maxItems: options.maxItems ?? 100,
    maxWeight: 1_000,
    weigh: item => item,
    isHopeless: error => (error as Error).message === 'away',
    async flush(items) {
      batches.push(items)
      await gate
      if (options.isAway === true) throw new Error('away')
      if (items.some(item => options.refuses?.(item))) throw new Error('refused')
      return items.map(item => `wrote ${item}`)
    },
  })
  return {
    buffer,
    batches,
    close() {
      gate = new Promise(resolve => {
        open = resolve
      })
    },
    open: () => open(),
  }
}

test('an idle buffer writes at once, a busy one writes what arrived meanwhile together', async () => {
  const store = aStore()
  store.close()

  const first = store.buffer.add(1)
  const others = [store.buffer.add(2), store.buffer.add(3)]
  store.open()

  expect(await first).toBe('wrote 1')
  expect(await Promise.all(others)).toEqual(['wrote 2', 'wrote 3'])
  expect(store.batches).toEqual([[1], [2, 3]])
})

test('a batch holds no more items and weight than it may', async () => {
  const store = aStore({ maxItems: 3 })
  store.close()

  const all = [1, 400, 400, 400, 2, 3, 4].map(item => store.buffer.add(item))
  store.open()
  await Promise.all(all)

  expect(store.batches).toEqual([[1], [400, 400], [400, 2, 3], [4]])
})

test('an item that is heavier than a batch goes alone', async () => {
  const store = aStore()

  expect(await store.buffer.add(5_000)).toBe('wrote 5000')
})

test('an item that the database refuses takes no other with it', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { minLength: 1 }),
      fc.integer({ min: 1, max: 60 }),
      async (items, bad) => {
        const store = aStore({ refuses: item => item === bad })

        const results = await Promise.allSettled(items.map(item => store.buffer.add(item)))

        for (const [index, item] of items.entries())
          expect(results[index]?.status).toBe(item === bad ? 'rejected' : 'fulfilled')
      },
    ),
  )
})

test('when the database is away nobody is asked twice', async () => {
  const store = aStore({ isAway: true })
  store.close()
  const all = [1, 2, 3].map(item => store.buffer.add(item))
  store.open()

  const results = await Promise.allSettled(all)

  expect(results.map(result => result.status)).toEqual(['rejected', 'rejected', 'rejected'])
  expect(store.batches).toEqual([[1], [2, 3]])
})
