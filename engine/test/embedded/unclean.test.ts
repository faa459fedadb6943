import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import postgres from 'postgres'
import { expect, onTestFinished, test } from 'vitest'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { findProcess } from '../../src/embedded/processes.ts'
import {
  entriesOf,
  isRoot,
  killHard,
  ownerOf,
  query,
  readText,
  scratchFolder,
  spawnOwner,
  start,
  until,
} from './scratch.ts'

test('a killed server is reported, and the next start recovers what was committed', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const first = await start(dataDir)
  await query(first.connection, 'create table kept as select 42 as answer')

  process.kill(first.postmasterPid, 'SIGKILL')
  const { message } = await first.died

  expect(message).toContain(`Postgres of ${dataDir} ended by itself (SIGKILL)`)
  await first.stop()
  const second = await start(dataDir)
  expect(second.how).toBe('started')
  expect(await query(second.connection, 'select answer from kept')).toEqual([{ answer: 42 }])
})

test('stop is not reported as a death', async () => {
  const server = await start(join(scratchFolder(), 'pgdata'))

  await server.stop()

  expect(await Promise.race([server.died, Promise.resolve('nothing')])).toBe('nothing')
})

test('a backend that outlives its killed postmaster is ended before the next start', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const first = await start(dataDir)
  const sql = postgres({ ...first.connection, max: 1 })
  const [backend] = await sql`select pg_backend_pid() as pid`
  // Without waiting on anything it does not notice that its postmaster is gone.
  const busy = sql`select count(*) from generate_series(1, 100000000000)`.catch(() => 'ended')
  await until(async () => /SELECT/.test(await readText(`/proc/${backend?.pid}/cmdline`)))
  await killHard(first.postmasterPid)
  expect(await findProcess(backend?.pid)).toBeDefined()
  await first.stop()

  const second = await start(dataDir)

  expect(await findProcess(backend?.pid)).toBeUndefined()
  expect(await busy).toBe('ended')
  expect(await query(second.connection, 'select 1 as one')).toEqual([{ one: 1 }])
  await sql.end({ timeout: 0 })
})

test('the pid in a left-over postmaster.pid may be dead', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const first = await start(dataDir)
  await killHard(first.postmasterPid)
  await first.stop()
  const pidFile = join(dataDir, 'cluster', 'postmaster.pid')
  const left = await readFile(pidFile, 'utf8')

  const second = await start(dataDir)

  expect(left).toContain(String(first.postmasterPid))
  expect(second.how).toBe('started')
})

test('the pids in left-over lock files may belong to another program by now', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const first = await start(dataDir)
  await killHard(first.postmasterPid)
  await first.stop()
  // As the same account, because Postgres does not mind the processes of others.
  const stranger = spawn('sleep', ['600'], isRoot ? await ownerOf(join(dataDir, 'cluster')) : {})
  onTestFinished(() => {
    stranger.kill()
  })
  for (const file of ['cluster/postmaster.pid', 'socket/.s.PGSQL.5432.lock']) {
    const left = await readFile(join(dataDir, file), 'utf8')
    await writeFile(join(dataDir, file), left.replace(/^\d+/, String(stranger.pid)))
  }

  const second = await start(dataDir)

  expect(second.how).toBe('started')
  expect(stranger.exitCode).toBeNull()
})

test('a killed server on 127.0.0.1 comes back on its port, or on another when that is taken', async () => {
  const dataDir = join(scratchFolder(), 'x'.repeat(100))
  const first = await start(dataDir)
  await killHard(first.postmasterPid)
  await first.stop()

  const second = await start(dataDir)
  await killHard(second.postmasterPid)
  await second.stop()
  const stranger = createServer().listen({ host: '127.0.0.1', port: first.connection.port })
  onTestFinished(() => {
    stranger.close()
  })
  await once(stranger, 'listening')
  const third = await start(dataDir)

  expect(second.connection).toEqual(first.connection)
  expect(third.connection.port).not.toBe(first.connection.port)
  expect(await query(third.connection, 'select 1 as one')).toEqual([{ one: 1 }])
})

test('a password that was changed behind our back is named as the reason', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const first = await start(dataDir)
  await query(first.connection, "alter role stepwell password 'other'")
  await first.stop()

  const refused = startEmbeddedPostgres({ dataDir })

  await expect(refused).rejects.toMatchObject({
    code: 'start_failed',
    message: expect.stringContaining('does not let Stepwell in: password authentication failed for user "stepwell"'),
  })
  expect(await entriesOf(dataDir)).toEqual(['cluster', 'postgres.log', 'socket'])
})

test('killed in the middle of initdb, the half-made folder does not count', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  await mkdir(dataDir)
  const owner = spawnOwner({ dataDir })
  const isHalfMade = async () => {
    const name = (await entriesOf(dataDir)).find(entry => /^cluster\.new-[0-9a-f]+$/.test(entry))
    return name !== undefined && (await entriesOf(join(dataDir, name)).catch((): string[] => [])).includes('PG_VERSION')
  }
  await until(isHalfMade)
  await killHard(owner.child.pid ?? 0)
  expect(await entriesOf(dataDir)).not.toContain('cluster')

  const server = await start(dataDir)

  expect(server.how).toBe('created')
  expect(await query(server.connection, 'select 1 as one')).toEqual([{ one: 1 }])
})

test('killed between initdb and making the database, the next start makes it', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const first = await start(dataDir)
  await query({ ...first.connection, database: 'postgres' }, 'drop database stepwell with (force)')
  await first.stop()

  const second = await start(dataDir)

  expect(await query(second.connection, 'select current_database() as name')).toEqual([{ name: 'stepwell' }])
})

test('killed while deleting, the rest is deleted at the next start', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  await mkdir(join(dataDir, 'cluster.old-12345678', 'base'), { recursive: true })

  await start(dataDir)

  expect(await entriesOf(dataDir)).toEqual(['cluster', 'postgres.log', 'socket', 'stepwell.lock'])
})
