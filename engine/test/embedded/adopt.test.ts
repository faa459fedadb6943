import { chown, cp, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import postgres from 'postgres'
import { expect, test } from 'vitest'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { findProcess } from '../../src/embedded/processes.ts'
import {
  entriesBelow,
  isRoot,
  killHard,
  ownerOf,
  query,
  readText,
  scratchFolder,
  start,
  startOwner,
  until,
} from './scratch.ts'

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

test('Ctrl-C reaches the engine and not its server, so that it can drain', async () => {
  const owner = await startOwner({ dataDir: join(scratchFolder(), 'pgdata') })

  // To the whole process group, as a terminal does.
  process.kill(-(owner.child.pid ?? 0), 'SIGINT')

  expect(await owner.nextLine()).toEqual({ drained: 2 })
  await owner.ended
  expect(await findProcess(owner.said.postmasterPid ?? 0)).toBeUndefined()
})
