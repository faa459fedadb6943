import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { connectionUrl } from '../../src/embedded/connection.ts'
import { open } from '../../src/store/db.ts'
import { createTestDatabase, type TestDatabase } from '../database.ts'
import { aHome, runStepwell, sendSigned, stepwell, waitForLine } from './stepwell.ts'

// Each test starts several processes.
vi.setConfig({ testTimeout: 240_000 })

const OLD_KEY = `whsec_${Buffer.alloc(32, 1).toString('base64')}`
const NEW_KEY = `whsec_${Buffer.alloc(32, 2).toString('base64')}`
const UNREACHABLE = 'postgres://user:hunter2@127.0.0.1:1/db'

let database: TestDatabase
beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

async function startStart(env: Record<string, string>) {
  const command = stepwell(['start', '--port', '0', '--host', '127.0.0.1'], {
    DATABASE_URL: connectionUrl(database.connection),
    STEPWELL_HOME: aHome(),
    ...env,
  })
  await waitForLine(command, 'engine ready')
  const line =
    command
      .output()
      .split('\n')
      .find(text => text.includes('engine ready')) ?? ''
  const { port, workspace } = JSON.parse(line) as { port: number; workspace: string }
  return { ...command, url: `http://127.0.0.1:${port}`, workspace }
}

describe('stepwell start', () => {
  test('serves signed requests only, logs JSON without keys, and stops in order', async () => {
    const engine = await startStart({ STEPWELL_SIGNING_KEY: OLD_KEY })

    const unsigned = await fetch(`${engine.url}/v1/runs`)
    const signed = await sendSigned({ ...engine, key: OLD_KEY }, 'POST', '/v1/events', { name: 'a' })
    engine.signal('SIGTERM')
    const code = await engine.exited

    expect(engine.workspace).toBe('default/prod')
    expect([unsigned.status, signed.status]).toEqual([401, 202])
    expect(code).toBe(0)
    const lines = engine
      .output()
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as { msg: string; level: number })
    expect(lines.map(line => line.msg)).toEqual([
      'database migrated',
      'engine ready',
      'engine stopping',
      'engine stopped',
    ])
    expect(engine.output()).not.toContain('whsec_')
    expect(engine.output()).not.toContain(database.connection.password)
  })

  test('rotates its key: both, then the new one only', async () => {
    const both = await startStart({ STEPWELL_SIGNING_KEY: `${NEW_KEY},${OLD_KEY}` })
    const during = await Promise.all(
      [OLD_KEY, NEW_KEY].map(key => sendSigned({ ...both, key }, 'GET', '/v1/runs').then(response => response.status)),
    )
    both.signal('SIGTERM')
    await both.exited
    const one = await startStart({ STEPWELL_SIGNING_KEY: NEW_KEY })
    const after = await Promise.all(
      [OLD_KEY, NEW_KEY].map(key => sendSigned({ ...one, key }, 'GET', '/v1/runs').then(response => response.status)),
    )
    one.signal('SIGTERM')
    await one.exited

    expect(during).toEqual([200, 200])
    expect(after).toEqual([401, 200])
  })

  test('says all that is missing at once', async () => {
    const { code, output } = await runStepwell(['start'], { STEPWELL_HOME: '/nowhere', STEPWELL_PROT: '1' })

    expect(code).toBe(2)
    expect(output).toContain('STEPWELL_DATABASE_URL (or DATABASE_URL) is not set')
    expect(output).toContain('STEPWELL_SIGNING_KEY is not set')
  })

  test.each(['start', 'migrate'])('%s says that the database is away, without its password', async command => {
    const env = { DATABASE_URL: UNREACHABLE, STEPWELL_SIGNING_KEY: OLD_KEY, STEPWELL_PORT: '0' }

    const { code, output } = await runStepwell([command], env)

    expect(code).toBe(1)
    expect(output).toContain('The database "db" at 127.0.0.1:1 cannot be reached (ECONNREFUSED). Check DATABASE_URL,')
    expect(output).not.toContain('hunter2')
    expect(output).not.toMatch(/\bat .*\.ts:/)
  })
})

describe('stepwell migrate', () => {
  test('says what it applied, that there was nothing to do, and that it is too old', async () => {
    const empty = await createTestDatabase()
    const sql = open(empty.connection, 1)
    await sql`drop schema stepwell cascade`
    const env = { STEPWELL_DATABASE_URL: connectionUrl(empty.connection) }

    const first = await runStepwell(['migrate'], env)
    const second = await runStepwell(['migrate'], env)
    await sql`insert into stepwell.migrations (name, checksum) values ('9999_later.sql', '')`
    const older = await runStepwell(['migrate'], env)
    await sql.end()

    expect(first.code).toBe(0)
    expect(first.output).toMatch(/^applied 0001_tables\.sql\n/)
    expect(first.output).toMatch(/up to date, \d+ applied\.\n$/)
    expect(second).toEqual({ code: 0, output: 'The database is up to date.\n' })
    expect(older.code).toBe(1)
    expect(older.output).toMatch(/^The database has migration 9999_later\.sql, which .*\n$/)
    await empty.drop()
  })
})
