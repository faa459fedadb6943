/* A real process that is gone between the commit and the report, and between the send and the delete. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createFunction } from '@stepwell/sdk'
import { drainOutbox, ensureStepwellTables } from '@stepwell/sdk/postgres'
import postgres from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../database.ts'
import { findFreePort, type RunningProcess, startProcess, waitForOk } from '../support/processes.ts'
import { startSystem, type TestSystem } from '../support/system.ts'
import { waitUntil } from '../support/wait-until.ts'

let system: TestSystem
let database: TestDatabase
let sql: postgres.Sql
let folder: string
let ledger: string
beforeAll(async () => {
  system = await startSystem()
  database = await createTestDatabase()
  sql = postgres({ ...database.connection, max: 3, onnotice: () => {} })
  folder = await mkdtemp(join(tmpdir(), 'stepwell-tx-'))
  ledger = join(folder, 'ledger')
  await sql`create table effects (label text not null)`
  await ensureStepwellTables(sql)
})
afterAll(async () => {
  expect(await system?.brokenInvariants()).toEqual([])
  await sql?.end({ timeout: 1 })
  await system?.stop()
  await database?.drop()
  await rm(folder, { recursive: true, force: true })
})
beforeEach(async () => {
  await writeFile(ledger, '')
  await sql`delete from effects`
})

function startApp(port: number, env: Record<string, string>): RunningProcess {
  return startProcess('test/postgres/crash-app.ts', [], {
    CONNECTION: JSON.stringify(database.connection),
    LEDGER: ledger,
    PORT: String(port),
    STEPWELL_URL: system.front.url,
    STEPWELL_SIGNING_KEY: system.signingKey,
    STEPWELL_WORKSPACE: 'default/test',
    ...env,
  })
}

test.each(['postgres.js', 'pg'])(
  'killed after the commit and before the report, with %s, the effect is there once and the run has its result',
  async driver => {
    const port = await findFreePort()
    const url = `http://127.0.0.1:${port}`
    const dying = startApp(port, { DRIVER: driver, DIES: 'tx' })
    await waitForOk(url, dying)
    await system.client.sync([], { url })
    const [sent] = await system.client.send({ name: 'charge' })
    const run = sent?.runs[0] ?? ''

    expect(await dying.exited).toBe('SIGKILL')
    expect((await system.journal(run)).map(entry => entry.type)).not.toContain('step_completed')
    expect(await sql`select label from effects`).toEqual([{ label: 'charged' }])
    const next = startApp(port, { DRIVER: driver })
    await waitForOk(url, next)
    await system.client.sync([], { url })

    const ended = await system.waitForState(run, 'completed', 'failed')
    await next.kill()
    expect(ended).toMatchObject({ state: 'completed', output: { key: `${run}:1:charge` } })
    expect(await sql`select label from effects`).toEqual([{ label: 'charged' }])
    expect(await readFile(ledger, 'utf8')).toBe('called\n')
  },
)

test('killed after the send and before the delete, an event starts one run', async () => {
  const seen: unknown[] = []
  const ship = createFunction({
    id: 'ship',
    trigger: { event: 'order.paid' },
    handler: ({ event, step }) => step.run('note', () => void seen.push(event.data.orderId)),
  })
  const served = await system.serveApp([ship])
  await sql`select stepwell.send('order.paid', json_build_object('orderId', n)::text) from generate_series(1, 3) n`

  const dying = startApp(await findFreePort(), { DIES: 'drain' })
  expect(await dying.exited, dying.output()).toBe('SIGKILL')
  await waitUntil('the engine has run them', () => seen.length === 3)
  expect(await sql`select id from stepwell.outbox`).toHaveLength(3)
  const drain = drainOutbox({ client: system.client, sql })
  await waitUntil('the outbox is empty', async () => (await sql`select 1 from stepwell.outbox`).length === 0)

  await drain.stop()
  await system.client.sendAndWait({ name: 'order.paid', data: { orderId: 'last' } })
  await served.close()
  expect(seen).toEqual([1, 2, 3, 'last'])
})
