import type { Trigger } from '@stepwell/protocol'
import { describe, expect, test } from 'vitest'
import type { WorkspaceId } from '../../src/core/ids.ts'
import { transaction } from '../../src/store/db.ts'
import { ingest } from '../../src/store/ingest.ts'
import {
  addEventKeys,
  addShape,
  ensureWorkspace,
  findWorkspace,
  listWorkspaces,
  readCatalog,
  readEventsSince,
  saveApp,
  setOnlyKey,
  setShapeCompleteSince,
  shapeCompleteSince,
} from '../../src/store/workspaces.ts'
import { anEvent, databaseNowMs, send, someoneWaits, useStore, VERSION } from './fixture.ts'

const store = useStore()

async function versionOf(ws: WorkspaceId = store.ws): Promise<string | undefined> {
  return (await readCatalog(store.sql, ws))?.version
}

const onEvent = (event: string): Trigger[] => [{ event }]

describe('a workspace', () => {
  test('is created once, however many engines ask for it at once', async () => {
    const name = `new-${store.ws}/dev`

    const found = await Promise.all(Array.from({ length: 8 }, (_, n) => ensureWorkspace(store.sql, name, `key-${n}`)))

    expect(new Set(found).size).toBe(1)
    expect(await findWorkspace(store.sql, name)).toBe(found[0])
    expect(await listWorkspaces(store.sql)).toContain(found[0])
    expect((await readCatalog(store.sql, found[0] as WorkspaceId))?.keys).toHaveLength(8)
  })

  test('and others that are created at once get numbers of their own', async () => {
    const found = await Promise.all(
      Array.from({ length: 8 }, (_, n) => ensureWorkspace(store.sql, `app-${store.ws}-${n}/dev`, 'key')),
    )

    expect(new Set(found).size).toBe(8)
  })

  test('has a new version with each key that comes or goes, and only then', async () => {
    const ws = await ensureWorkspace(store.sql, `keys-${store.ws}`, 'one')
    const first = await versionOf(ws)
    await ensureWorkspace(store.sql, `keys-${store.ws}`, 'one')
    expect(await versionOf(ws)).toBe(first)

    await ensureWorkspace(store.sql, `keys-${store.ws}`, 'two')
    const second = await versionOf(ws)
    await setOnlyKey(store.sql, ws, 'two')

    expect(second).not.toBe(first)
    expect(await versionOf(ws)).not.toBe(second)
    expect((await readCatalog(store.sql, ws))?.keys).toEqual(['two'])
  })

  test('that is not there has no catalog', async () => {
    expect(await readCatalog(store.sql, 999_999 as WorkspaceId)).toBeNull()
    expect(await findWorkspace(store.sql, 'nobody')).toBeNull()
  })
})

describe('an app', () => {
  test('replaces the functions and the url of its workspace', async () => {
    await saveApp(store.sql, store.ws, {
      url: 'http://one',
      functions: [
        { id: 'a', triggers: onEvent('go') },
        { id: 'b', triggers: [...onEvent('go'), ...onEvent('say "hi" {}')] },
      ],
    })
    await saveApp(store.sql, store.ws, { url: 'http://two', functions: [{ id: 'b', triggers: onEvent('go') }] })

    const catalog = await readCatalog(store.sql, store.ws)

    expect(catalog).toMatchObject({
      url: 'http://two',
      functions: new Map([['b', { id: 'b', triggers: onEvent('go') }]]),
      version: '3',
    })
    expect(catalog?.startedBy).toEqual(new Map([['go', ['b']]]))
  })

  test('may have no functions', async () => {
    await saveApp(store.sql, store.ws, { url: 'http://one', functions: [] })

    expect((await readCatalog(store.sql, store.ws))?.functions).toEqual(new Map())
  })
})

describe('a shape', () => {
  test('makes a new version the first time', async () => {
    await addShape(store.sql, store.ws, 'go', ['a', 'b'])
    await addShape(store.sql, store.ws, 'go', ['a', 'b'])
    await addShape(store.sql, store.ws, 'go', [])

    const catalog = await readCatalog(store.sql, store.ws)
    expect(catalog?.version).toBe('3')
    expect(catalog?.shapes.get('go')?.sort()).toEqual([[], ['a', 'b']])
  })

  test('waits for events that are being accepted without it, and those that wait for it are computed anew', async () => {
    const { adding } = await transaction(store.connection, async tx => {
      await send(store, [anEvent({ name: 'go' })], tx)
      const adding = addShape(store.sql, store.ws, 'go', [])
      await someoneWaits(store)
      return { adding }
    })
    await adding

    expect(await ingest(store.sql, store.ws, VERSION, [anEvent({ name: 'go' })])).toEqual({ stale: true })
  })

  test('holds up events of its name until it is known', async () => {
    const { accepting } = await transaction(store.connection, async tx => {
      await addShape(tx, store.ws, 'go', [])
      const accepting = ingest(store.sql, store.ws, VERSION, [anEvent({ name: 'go' })])
      await someoneWaits(store)
      return { accepting }
    })

    expect(await accepting).toEqual({ stale: true })
  })

  test('remembers how far back events have their key', async () => {
    const shape = { ws: store.ws, event: 'go', paths: ['a'] }
    await addShape(store.sql, store.ws, 'go', ['a'])
    expect(await shapeCompleteSince(store.sql, store.ws, 'go', ['a'])).toBeNull()

    for (const sinceMs of [1_700_000_000_123, 1_600_000_000_001, 1_700_000_000_123])
      await setShapeCompleteSince(store.sql, { ...shape, sinceMs })

    expect(await shapeCompleteSince(store.sql, store.ws, 'go', ['a'])).toBe(1_600_000_000_001)
  })
})

test('events since an instant come in pages that join without a gap, and can get keys twice', async () => {
  const sinceMs = await databaseNowMs(store)
  const events = Array.from({ length: 7 }, (_, n) => anEvent({ name: 'go', data: { n }, shapes: [] }))
  await send(store, events.slice(0, 4))
  await send(store, [anEvent({ name: 'other', shapes: [] }), ...events.slice(4)])

  const pages: string[][] = []
  let after: { receivedAt: string; id: string } | null = null
  for (;;) {
    const page: Awaited<ReturnType<typeof readEventsSince>> = await readEventsSince(store.sql, {
      ws: store.ws,
      event: 'go',
      sinceMs: Math.floor(sinceMs),
      after,
      limit: 3,
    })
    if (page.length === 0) break
    pages.push(page.map(row => row.id))
    const keys = page.map(row => ({ hash: events[0]?.id ?? '', receivedAt: row.receivedAt, eventId: row.id }))
    await addEventKeys(store.sql, store.ws, keys)
    await addEventKeys(store.sql, store.ws, keys)
    after = page.at(-1) ?? null
  }

  expect(pages.map(page => page.length)).toEqual([3, 3, 1])
  expect(pages.flat()).toEqual(events.map(event => event.id))
  const [row] = await store.sql`select count(*)::int as keys from stepwell.event_keys where ws = ${store.ws}`
  expect(row?.keys).toBe(7)
})
