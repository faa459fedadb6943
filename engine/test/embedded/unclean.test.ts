import { spawn } from 'node:child_process'
import { chown, cp, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import postgres from 'postgres'
import { expect, onTestFinished, test } from 'vitest'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { findProcess } from '../../src/embedded/processes.ts'
import {
  entriesBelow,
  entriesOf,
  isRoot,
  killHard,
  ownerOf,
  query,
  readText,
  scratchFolder,
  spawnOwner,
  start,
  startOwner,
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

test('the server of a killed engine goes on and is adopted', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const owner = await startOwner({ dataDir })
  const { connection, postmasterPid = 0 } = owner.said
  const session = postgres({ ...(connection ?? {}), max: 1 })
  await session`create temporary table mine as select 42 as answer`
  await killHard(owner.child.pid ?? 0)

  const server = await start(dataDir)

  expect(server.how).toBe('adopted')
  expect(server.postmasterPid).toBe(postmasterPid)
  expect(server.connection).toEqual(connection)
  expect([...(await session`select answer from mine`)]).toEqual([{ answer: 42 }])
  await session.end()
  await server.stop()
  expect(await findProcess(postmasterPid)).toBeUndefined()
})

test('a server on 127.0.0.1 is adopted too', async () => {
  const dataDir = join(scratchFolder(), 'x'.repeat(100))
  const owner = await startOwner({ dataDir })
  await killHard(owner.child.pid ?? 0)

  const server = await start(dataDir)

  expect(server.how).toBe('adopted')
  expect(server.connection).toEqual(owner.said.connection)
})

test('an adopted server that is killed is reported', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const owner = await startOwner({ dataDir })
  await killHard(owner.child.pid ?? 0)
  const server = await start(dataDir)

  await killHard(server.postmasterPid)

  expect((await server.died).message).toContain('ended by itself (it had been adopted')
})

test('a server with other settings than wanted is not adopted but started again', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const owner = await startOwner({ dataDir, settings: { work_mem: '5MB' } })
  await killHard(owner.child.pid ?? 0)

  const server = await start(dataDir, { settings: { work_mem: '6MB' } })

  expect(server.how).toBe('started')
  expect(await query(server.connection, 'show work_mem')).toEqual([{ work_mem: '6MB' }])
})

test('a server that does not let us in is not adopted but started again', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const owner = await startOwner({ dataDir })
  const rules = join(dataDir, 'cluster', 'pg_hba.conf')
  const letIn = await readText(rules)
  await writeFile(rules, 'local all all reject\n')
  process.kill(owner.said.postmasterPid ?? 0, 'SIGHUP')
  const isRefused = async () => {
    const asked = owner.said.connection && query(owner.said.connection, 'select 1')
    return (
      asked?.then(
        () => false,
        () => true,
      ) ?? true
    )
  }
  await until(isRefused)
  await writeFile(rules, letIn)
  await killHard(owner.child.pid ?? 0)

  const server = await start(dataDir)

  expect(server.how).toBe('started')
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

test('fresh stops a server that was left running', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const owner = await startOwner({ dataDir })
  await killHard(owner.child.pid ?? 0)

  const server = await start(dataDir, { fresh: true })

  expect(server.how).toBe('created')
  expect(await findProcess(owner.said.postmasterPid ?? 0)).toBeUndefined()
})

test('a copy of a folder leaves the server of the original alone', async () => {
  const folder = scratchFolder()
  const original = await start(join(folder, 'original'))
  await query(original.connection, 'checkpoint')
  await cp(join(folder, 'original'), join(folder, 'copy'), {
    recursive: true,
    filter: path => !/socket$|lock$/.test(path),
  })
  const { uid, gid } = await ownerOf(join(folder, 'original'))
  for (const path of await entriesBelow(join(folder, 'copy'))) if (isRoot) await chown(path, uid, gid)

  const copy = await start(join(folder, 'copy'))

  expect(copy.how).toBe('started')
  expect(copy.postmasterPid).not.toBe(original.postmasterPid)
  expect(await query(original.connection, 'select 1 as one')).toEqual([{ one: 1 }])
})

test('a folder that was moved under a running server is refused, not started twice', async () => {
  const folder = scratchFolder()
  const owner = await startOwner({ dataDir: join(folder, 'before') })
  await killHard(owner.child.pid ?? 0)
  await rename(join(folder, 'before'), join(folder, 'after'))

  const refused = startEmbeddedPostgres({ dataDir: join(folder, 'after') })

  await expect(refused).rejects.toMatchObject({
    code: 'start_failed',
    message: expect.stringContaining('pre-existing shared memory block'),
  })
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

test('Ctrl-C reaches the engine and not its server, so that it can drain', async () => {
  const owner = await startOwner({ dataDir: join(scratchFolder(), 'pgdata') })

  // To the whole process group, as a terminal does.
  process.kill(-(owner.child.pid ?? 0), 'SIGINT')

  expect(await owner.nextLine()).toEqual({ drained: 2 })
  await owner.ended
  expect(await findProcess(owner.said.postmasterPid ?? 0)).toBeUndefined()
})
