/* Middleware that encrypts payloads, with the real engine between apps and client: the database holds nothing readable. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { createFunction, type Middleware, type Payload, StepwellClient, serve } from '@stepwell/sdk'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { listen } from '../support/app-server.ts'
import { startSystem, type TestSystem } from '../support/system.ts'

let system: TestSystem
beforeAll(async () => {
  system = await startSystem()
})
afterAll(() => system.stop())

const KEY = randomBytes(32)
const IV_BYTES = 12
const TAG_BYTES = 16

const encryption: Middleware = {
  name: 'encryption',
  encode(value, payload) {
    const iv = randomBytes(IV_BYTES)
    const cipher = createCipheriv('aes-256-gcm', KEY, iv).setAAD(contextOf(payload))
    const sealed = Buffer.concat([cipher.update(JSON.stringify(value)), cipher.final()])
    return { sealed: Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64') }
  },
  decode(value, payload) {
    if (typeof value !== 'object' || value === null || !('sealed' in value)) return value
    const bytes = Buffer.from(String(value.sealed), 'base64')
    const decipher = createDecipheriv('aes-256-gcm', KEY, bytes.subarray(0, IV_BYTES)).setAAD(contextOf(payload))
    decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES))
    const plain = Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()])
    return JSON.parse(plain.toString())
  },
}

function contextOf({ kind, name }: Payload): Buffer {
  return Buffer.from(JSON.stringify([kind, name]))
}

/** Every row of every table, as text. */
async function everythingStored(): Promise<string> {
  const sql = system.engine.pools.read
  const tables = await sql<{ name: string }[]>`
    select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname = 'stepwell'`
  const rows = await Promise.all(tables.map(({ name }) => sql.unsafe(`select t::text as text from ${name} t`)))
  return JSON.stringify(rows)
}

test('a run works on plain values, and none of them is in the database', async () => {
  const seen: unknown[] = []
  const parent = createFunction({
    id: 'parent',
    trigger: { event: 'order.placed' },
    handler: async ({ event, step }) => {
      step.setStatus('status-secret')
      const output = await step.run('charge', () => ({ card: 'output-secret' }))
      const child = await step.invoke('ask', { function: 'child', data: 'invoke-secret' })
      await step.sendEvent('tell', { name: 'told', data: 'sent-secret' })
      const told = await step.waitForEvent('wait', { event: 'told' })
      const signal = await step.waitForSignal('listen', 'word')
      seen.push([event.data, output, child, told?.data, signal?.data])
      return 'return-secret'
    },
  })
  const child = createFunction({
    id: 'child',
    handler: ({ event, step }) => {
      seen.push(event.data)
      return event.data === 'invoke-secret' ? step.continueAsNew('again-secret') : 'child-secret'
    },
  })
  const middleware = [encryption]
  const functions = [parent, child]
  const app = await listen(serve(functions, { signingKey: system.signingKey, middleware }))
  const { signingKey, front } = system
  const client = new StepwellClient({ url: front.url, signingKey, workspace: 'default/test', middleware })
  await client.sync(functions, { url: app.url })

  const [sent] = await client.send({ name: 'order.placed', data: 'event-secret' })
  const run = sent?.runs[0] ?? ''
  await system.waitForState(run, 'waiting')
  await client.signal(run, 'word', 'signal-secret')
  const ended = await client.waitForRun(run)
  await app.close()

  expect(ended).toMatchObject({ state: 'completed', output: 'return-secret', status: 'status-secret' })
  const values = ['event-secret', { card: 'output-secret' }, 'child-secret', 'sent-secret', 'signal-secret']
  expect(seen.at(-1)).toEqual(values)
  const stored = await everythingStored()
  expect(stored).toContain('sealed')
  expect(stored).not.toContain('-secret')
  expect(JSON.stringify(await system.client.getJournal(run))).not.toContain('-secret')
  expect(JSON.stringify(await client.getJournal(run))).toContain('output-secret')
  expect(await system.brokenInvariants()).toEqual([])
})
