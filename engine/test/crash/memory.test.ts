import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createFunction, StepwellClient, serve } from '@stepwell/sdk'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { open, type Sql } from '../../src/store/db.ts'
import { createTestDatabase, type TestDatabase } from '../database.ts'
import { type ListeningServer, listen } from '../support/app-server.ts'
import { waitUntil } from '../support/wait-until.ts'

const RUNS = 50_000
const WARM_UP_RUNS = 5_000
const RUNS_PER_CALL = 1_000
/** Caches that fill up to a limit, compiled code: not what a leak per run would be (at 100 bytes a run: 5 MB). */
const GROWTH_BYTES_MAX = 4 * 1024 * 1024

let database: TestDatabase
let engine: ChildProcess
let app: ListeningServer
let client: StepwellClient
let sql: Sql

beforeAll(async () => {
  database = await createTestDatabase()
  const signingKey = `whsec_${randomBytes(32).toString('base64')}`
  engine = spawn(
    process.execPath,
    ['--expose-gc', '--import', 'tsx', fileURLToPath(new URL('memory-engine.ts', import.meta.url))],
    {
      env: { ...process.env, CONNECTION: JSON.stringify(database.connection), SIGNING_KEY: signingKey },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    },
  )
  const [{ url }] = (await once(engine, 'message')) as [{ url: string }]
  const one = createFunction({
    id: 'one',
    trigger: { event: 'one' },
    handler: ({ step }) => step.run('only', () => 'done'),
  })
  app = await listen(serve([one], { signingKey }))
  client = new StepwellClient({ url, signingKey, workspace: 'default/test' })
  await client.sync([one], { url: app.url })
  sql = open(database.connection, 1)
})
afterAll(async () => {
  engine?.kill('SIGKILL')
  await app?.close()
  await sql?.end()
  await database?.drop()
})

async function run(count: number, total: number): Promise<void> {
  for (let sent = 0; sent < count; sent += RUNS_PER_CALL)
    await client.send(Array.from({ length: RUNS_PER_CALL }, () => ({ name: 'one' })))
  await waitUntil(`${total} runs are done`, async () => (await countDone()) === total, { timeoutMs: 400_000 })
}

async function countDone(): Promise<number> {
  const [row] = await sql<{ count: number }[]>`select count(*)::int as count from stepwell.runs_done`
  return row?.count ?? 0
}

async function heapBytes(): Promise<number> {
  engine.send('heap')
  const [{ heapBytes }] = (await once(engine, 'message')) as [{ heapBytes: number }]
  return heapBytes
}

test('the engine does not grow over 50,000 runs', { timeout: 500_000 }, async () => {
  await run(WARM_UP_RUNS, WARM_UP_RUNS)
  const before = await heapBytes()

  await run(RUNS, WARM_UP_RUNS + RUNS)

  const grownBytes = (await heapBytes()) - before
  console.log(
    `heap after ${WARM_UP_RUNS} runs: ${(before / 2 ** 20).toFixed(1)} MiB; ${RUNS} runs later: ${(grownBytes / 2 ** 20).toFixed(2)} MiB more`,
  )
  expect(grownBytes).toBeLessThan(GROWTH_BYTES_MAX)
  expect(await sql`select * from stepwell.check_invariants()`).toEqual([])
})
