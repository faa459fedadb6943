import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { lockFolder } from '../../src/embedded/lock.ts'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { entriesOf, killHard, scratchFolder, start, startOwner } from './scratch.ts'

// Above the largest pid that Linux gives.
const NO_SUCH_PID = 2 ** 22 + 1
const RACE_ROUNDS = 120

test('a folder in use names its owner and where it is', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const owner = await startOwner({ dataDir, note: 'http://localhost:3030' })

  const refused = startEmbeddedPostgres({ dataDir })

  await expect(refused).rejects.toMatchObject({
    code: 'folder_in_use',
    message:
      `The data folder ${dataDir} is in use by Stepwell, process ${owner.child.pid} at http://localhost:3030. ` +
      'Stop it, or choose another folder with --data-dir.',
  })
})

test('an owner that has not said where it is yet is named without', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  await start(dataDir)

  const refused = startEmbeddedPostgres({ dataDir })

  await expect(refused).rejects.toThrow(`in use by Stepwell, process ${process.pid}. Stop it`)
})

test('a folder in use is not wiped by fresh', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  await startOwner({ dataDir })

  const refused = startEmbeddedPostgres({ dataDir, fresh: true })

  await expect(refused).rejects.toMatchObject({ code: 'folder_in_use' })
  expect(await entriesOf(dataDir)).toContain('cluster')
})

test('the lock of a killed process is taken over', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  const owner = await startOwner({ dataDir, note: 'http://localhost:3030' })
  await killHard(owner.child.pid ?? 0)

  await start(dataDir)

  expect(JSON.parse(await readFile(join(dataDir, 'stepwell.lock'), 'utf8'))).toMatchObject({
    pid: process.pid,
    note: '',
  })
})

test.each([
  [
    'names a pid that another process has by now',
    JSON.stringify({ pid: process.pid, startedAt: 'long ago', nonce: 'ab' }),
  ],
  ['is empty, as a power failure leaves it', ''],
])('a lock that %s is taken over', async (_what, content) => {
  const dataDir = scratchFolder()
  await writeFile(join(dataDir, 'stepwell.lock'), content)

  const server = await start(dataDir)

  expect(server.how).toBe('created')
})

test('of many that find the lock of a dead process at once, one gets the folder', async () => {
  const dataDir = scratchFolder()
  const path = join(dataDir, 'stepwell.lock')

  // The race is in the steps on disk, so contenders in one process run it as well as processes would, and more often.
  for (let round = 0; round < RACE_ROUNDS; round++) {
    await writeFile(path, JSON.stringify({ pid: NO_SUCH_PID, startedAt: 'x', nonce: `${round}` }))
    const attempts = Array.from({ length: 12 }, () => lockFolder({ path, dataDir }))
    const outcomes = await Promise.allSettled(attempts)

    const winners = outcomes.flatMap(outcome => (outcome.status === 'fulfilled' ? [outcome.value] : []))
    const codes = outcomes.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason.code] : []))
    expect(winners).toHaveLength(1)
    expect(new Set(codes)).toEqual(new Set(['folder_in_use']))
    await winners[0]?.release()
    expect(await entriesOf(dataDir)).toEqual([])
  }
})

test('the guard of a process that was killed while taking over does not keep the folder', async () => {
  const dataDir = scratchFolder()
  const path = join(dataDir, 'stepwell.lock')
  await writeFile(path, JSON.stringify({ pid: NO_SUCH_PID, startedAt: 'x', nonce: 'aa' }))
  await writeFile(`${path}.guard-aa`, JSON.stringify({ pid: NO_SUCH_PID, startedAt: 'x', nonce: 'bb' }))

  const lock = await lockFolder({ path, dataDir })

  expect(await entriesOf(dataDir)).toEqual(['stepwell.lock'])
  await lock.release()
})
