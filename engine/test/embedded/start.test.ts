import { execFile } from 'node:child_process'
import { mkdir, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import postgres from 'postgres'
import { expect, test } from 'vitest'
import { connectionFromUrl } from '../../src/embedded/connection.ts'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { entriesOf, query, readText, scratchFolder, start, until } from './scratch.ts'

test('a first start makes a database in a folder that did not exist', async () => {
  const dataDir = join(scratchFolder(), 'new', 'pgdata')

  const server = await start(dataDir)

  expect(server.how).toBe('created')
  expect(server.dataDir).toBe(dataDir)
  expect(server.connection.host).toBe(join(dataDir, 'socket'))
  const [row] = await query(server.connection, 'select current_database() as name, version() as version')
  expect(row).toMatchObject({ name: 'stepwell', version: expect.stringMatching(/^PostgreSQL 18\./) })
})

test('everything it leaves is inside the folder, and the password is readable by its owner only', async () => {
  const folder = scratchFolder()
  const dataDir = join(folder, 'pgdata')

  const server = await start(dataDir)

  expect(await entriesOf(folder)).toEqual(['pgdata'])
  expect(await entriesOf(dataDir)).toEqual(['cluster', 'postgres.log', 'socket', 'stepwell.lock'])
  const secret = join(dataDir, 'cluster', 'stepwell.json')
  expect(await readText(secret)).toContain(server.connection.password)
  expect((await stat(secret)).mode & 0o777).toBe(0o600)
  expect((await stat(join(dataDir, 'postgres.log'))).mode & 0o777).toBe(0o600)
  await server.stop()
  expect(await entriesOf(dataDir)).toEqual(['cluster', 'postgres.log', 'socket'])
})

test('a second start keeps the data', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const first = await start(dataDir)
  await query(first.connection, 'create table kept as select 42 as answer')
  await first.stop()

  const second = await start(dataDir)

  expect(second.how).toBe('started')
  expect(await query(second.connection, 'select answer from kept')).toEqual([{ answer: 42 }])
})

test('fresh deletes the data that Stepwell made', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const first = await start(dataDir)
  await query(first.connection, 'create table kept ()')
  await first.stop()

  const second = await start(dataDir, { fresh: true })

  expect(second.how).toBe('created')
  expect(await query(second.connection, "select to_regclass('kept') as kept")).toEqual([{ kept: null }])
  expect(await entriesOf(dataDir)).toEqual(['cluster', 'postgres.log', 'socket', 'stepwell.lock'])
})

test.each([
  ['somebody’s files', 'thesis.tex', ''],
  ['a data folder of another Postgres', 'PG_VERSION', '18\n'],
])('a folder with %s is left alone, also with fresh', async (_what, name, content) => {
  const dataDir = scratchFolder()
  await writeFile(join(dataDir, name), content)

  const refused = startEmbeddedPostgres({ dataDir, fresh: true })

  await expect(refused).rejects.toMatchObject({
    code: 'not_a_data_folder',
    message: expect.stringContaining(`there is "${name}" in it`),
  })
  expect(await entriesOf(dataDir)).toEqual([name])
})

test('a folder named cluster that is not ours is left alone', async () => {
  const dataDir = scratchFolder()
  await mkdir(join(dataDir, 'cluster'))

  const refused = startEmbeddedPostgres({ dataDir, fresh: true })

  await expect(refused).rejects.toMatchObject({ code: 'not_a_data_folder' })
  expect(await entriesOf(dataDir)).toEqual(['cluster'])
})

test('a file in place of the folder is refused in one sentence', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  await writeFile(dataDir, '')

  const refused = startEmbeddedPostgres({ dataDir })

  await expect(refused).rejects.toMatchObject({
    code: 'not_a_data_folder',
    message: `${dataDir} is a file or lies inside one: choose a folder with --data-dir.`,
  })
})

test('an empty volume may have lost+found in it', async () => {
  const dataDir = scratchFolder()
  await mkdir(join(dataDir, 'lost+found'))

  const server = await start(dataDir)

  expect(server.how).toBe('created')
})

test('data of another major version is refused and kept', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  await (await start(dataDir)).stop()
  await writeFile(join(dataDir, 'cluster', 'PG_VERSION'), '17\n')

  const refused = startEmbeddedPostgres({ dataDir })

  await expect(refused).rejects.toMatchObject({
    code: 'wrong_version',
    message: expect.stringContaining('holds data of Postgres 17, and this is Postgres 18'),
  })
  expect(await entriesOf(dataDir)).toEqual(['cluster', 'postgres.log', 'socket'])
})

test('settings: durable whatever is asked for, for a laptop otherwise', async () => {
  const server = await start(join(scratchFolder(), 'pgdata'), { settings: { Work_Mem: '5MB', max_connections: '20' } })

  const names = ['fsync', 'full_page_writes', 'data_checksums', 'work_mem', 'max_connections', 'listen_addresses']
  const more = ['TimeZone', 'lc_messages', 'server_encoding', 'synchronous_commit']
  const list = [...names, ...more].map(name => `current_setting('${name}') as "${name}"`).join(', ')
  const [row] = await query(server.connection, `select ${list}`)

  expect(row).toEqual({
    fsync: 'on',
    full_page_writes: 'on',
    data_checksums: 'on',
    work_mem: '5MB',
    max_connections: '20',
    listen_addresses: '',
    TimeZone: 'UTC',
    lc_messages: 'C',
    server_encoding: 'UTF8',
    synchronous_commit: 'on',
  })
})

test.each([{ fsync: 'off' }, { FULL_PAGE_WRITES: 'off' }, { listen_addresses: '*' }])(
  'the setting %o is refused',
  async settings => {
    const dataDir = join(scratchFolder(), 'pgdata')

    const refused = startEmbeddedPostgres({ dataDir, settings: settings as Record<string, string> }) // a union of literals

    await expect(refused).rejects.toMatchObject({ code: 'setting_refused' })
  },
)

test('a setting that Postgres does not take is reported with the end of its log, and the folder is free again', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')

  const refused = startEmbeddedPostgres({ dataDir, settings: { work_mem: 'plenty' } })

  await expect(refused).rejects.toMatchObject({
    code: 'start_failed',
    message: expect.stringContaining('invalid value for parameter "work_mem": "plenty"'),
  })
  expect((await start(dataDir)).how).toBe('started')
})

test('a path too long for a socket is served on 127.0.0.1', async () => {
  const dataDir = join(scratchFolder(), 'x'.repeat(100))

  const server = await start(dataDir)

  expect(server.connection.host).toBe('127.0.0.1')
  expect(server.url).toMatch(/^postgres:\/\/stepwell:[\w-]+@127\.0\.0\.1:\d+\/stepwell$/)
  expect(await query(server.connection, 'select 1 as one')).toEqual([{ one: 1 }])
  const wrong = query({ ...server.connection, password: 'guess' }, 'select 1')
  await expect(wrong).rejects.toMatchObject({ code: '28P01' })
})

test('a path with blanks, quotes and a comma works', async () => {
  const blanks = await start(join(scratchFolder(), 'my "data" here'))
  const comma = await start(join(scratchFolder(), 'a,b'))

  expect(await query(blanks.connection, 'select 1 as one')).toEqual([{ one: 1 }])
  expect(blanks.connection.host).toMatch(/my "data" here\/socket$/)
  expect(await query(comma.connection, 'select 1 as one')).toEqual([{ one: 1 }])
  expect(comma.connection.host).toBe('127.0.0.1')
})

test('psql takes the url, and postgres.js what connectionFromUrl makes of it', async context => {
  const server = await start(join(scratchFolder(), 'pg data'))

  const connection = connectionFromUrl(server.url)

  expect(connection).toEqual(server.connection)
  const psql = promisify(execFile)('psql', [server.url, '-Atc', 'select 1 + 1'])
  const { stdout } = await psql.catch(error =>
    error.code === 'ENOENT' ? context.skip('psql is not here') : Promise.reject(error),
  )
  expect(stdout).toBe('2\n')
})

test('stop ends within seconds with clients connected and a transaction open, and may be asked twice', async () => {
  const server = await start(join(scratchFolder(), 'pgdata'))
  const sql = postgres({ ...server.connection, max: 2 })
  const idle = await sql.reserve()
  await idle`begin`
  const busy = sql`select pg_sleep(600)`.catch((error: { code?: string }) => error.code)
  const sleeping = "select count(*)::int as n from pg_stat_activity where wait_event = 'PgSleep'"
  await until(async () => (await query(server.connection, sleeping))[0]?.n === 1)
  const before = performance.now()

  await Promise.all([server.stop(), server.stop()])

  expect(performance.now() - before).toBeLessThan(3_000)
  // "terminating connection due to administrator command", or the socket was closed first.
  expect(['57P01', 'CONNECTION_CLOSED']).toContain(await busy)
  await sql.end({ timeout: 0 })
})

test('a log that has grown is put aside at the next start', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  await (await start(dataDir)).stop()
  await truncate(join(dataDir, 'postgres.log'), 2 * 1024 * 1024)

  await start(dataDir)

  expect((await stat(join(dataDir, 'postgres.log.1'))).size).toBe(2 * 1024 * 1024)
  expect((await stat(join(dataDir, 'postgres.log'))).size).toBeLessThan(10_000)
})
