import { describe, expect, test } from 'vitest'
import { transaction } from '../../src/store/db.ts'
import { anEvent, aWait, inboxOf, parkRun, send, someoneWaits, useStore } from './fixture.ts'

const store = useStore()

describe('events and open waits', () => {
  test('two events that arrive together satisfy two waits of a run', async () => {
    const run = await parkRun(store, [...aWait('first'), ...aWait('second')])

    // The second is being accepted while the first holds the run: it has seen both waits open.
    const { waiting } = await transaction(store.connection, async tx => {
      await send(store, [anEvent({ data: { n: 1 } })], tx)
      const waiting = send(store, [anEvent({ data: { n: 2 } })])
      await someoneWaits(store)
      return { waiting }
    })
    await waiting

    expect(await inboxOf(store, run)).toEqual(['wait_matched first', 'wait_matched second'])
  })
})
