/**
 * The data itself: whether a folder is ours, making it, and throwing it away. A cluster is complete or it does not
 * exist: it is made and deleted under other names, and the file that makes it ours (with the password in it) moves
 * into place with it, by one rename.
 */
import { randomBytes } from 'node:crypto'
import { chown, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Account, asAccount, cannotRunAsRoot, type Launcher } from './account.ts'
import type { Binaries } from './binaries.ts'
import { EmbeddedPostgresError, errorCode } from './error.ts'
import {
  DISCARDED_PREFIX,
  fingerprintOf,
  IDENTITY_FILE,
  isExpectedName,
  type Layout,
  UNFINISHED_PREFIX,
} from './layout.ts'
import { runToEnd } from './run-program.ts'

/** What is in `stepwell.json`. */
export interface Identity {
  user: string
  password: string
  database: string
  /** Random, and no secret: see `serverName`. */
  id: string
}

const NAME = 'stepwell'
const INITDB_TIMEOUT_MS = 120_000
const OUTPUT_LINES = 6
const MAX_DELETE_TRIES = 20
const DELETE_RETRY_MS = 50
const PRIVATE_FILE = 0o600
const PRIVATE_FOLDER = 0o700

/** The cluster's identity; undefined when there is none. Throws `not_a_data_folder` when something else is there. */
export async function readIdentity(layout: Layout): Promise<Identity | undefined> {
  const names = await readdir(layout.dataDir)
  const path = join(layout.cluster, IDENTITY_FILE)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if (errorCode(cause) !== 'ENOENT') throw cause
    if (names.includes('cluster')) throw notOurs(layout, `its folder "cluster" has no ${IDENTITY_FILE} in it`)
    const foreign = names.find(name => !isExpectedName(name))
    if (foreign !== undefined) throw notOurs(layout, `there is "${foreign}" in it`)
    return undefined
  }
  return parseIdentity(text) ?? fail(notOurs(layout, `${path} cannot be read as Stepwell's`))
}

/**
 * What Postgres puts into the titles of its processes, so that we find them again. With the path in it, because a copy
 * of a folder has the identity of the original, and must not take the original's server for its own.
 */
export function serverName(layout: Layout, identity: Identity): string {
  return `${NAME}_${fingerprintOf([identity.id, layout.cluster])}`
}

/** Runs initdb and makes the result the cluster. */
export async function createCluster(options: {
  layout: Layout
  account: Account
  launcher: Launcher
  binaries: Binaries
}): Promise<Identity> {
  const { layout, account, launcher, binaries } = options
  const folder = join(layout.dataDir, UNFINISHED_PREFIX + randomBytes(4).toString('hex'))
  const identity: Identity = {
    user: NAME,
    password: randomBytes(18).toString('base64url'),
    database: NAME,
    id: randomBytes(8).toString('hex'),
  }
  await mkdir(folder, { mode: PRIVATE_FOLDER })
  await giveTo(account, folder)
  // initdb wants the folder empty, so what belongs into it is written beside it first.
  const passwordFile = `${folder}-password`
  await writePrivate(passwordFile, identity.password, account)
  try {
    await runInitdb({ ...options, folder, passwordFile })
    await writePrivate(join(folder, IDENTITY_FILE), `${JSON.stringify(identity, null, 2)}\n`, account)
    await rename(folder, layout.cluster)
    await syncFolder(layout.dataDir)
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  } finally {
    await rm(passwordFile, { force: true })
  }
  return identity

  async function runInitdb({ folder, passwordFile }: { folder: string; passwordFile: string }): Promise<void> {
    const args = [
      `--pgdata=${folder}`,
      `--username=${identity.user}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      // Sorts by code point on every machine, whatever its C library does, and still knows what a letter is.
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-instructions',
    ]
    const command = asAccount({ account, launcher, file: binaries.initdb, args })
    const outcome = await runToEnd({ ...command, env: binaries.libraryEnv, timeoutMs: INITDB_TIMEOUT_MS })
    if (outcome.ok) return
    throw initdbFailed(layout, outcome)
  }
}

/** Throws `wrong_version` unless these binaries can read the cluster. */
export async function checkVersion(layout: Layout, version: string): Promise<void> {
  const found = (await readFile(join(layout.cluster, 'PG_VERSION'), 'utf8')).trim()
  const majorVersion = String(Number.parseInt(version, 10))
  if (found === majorVersion) return
  throw new EmbeddedPostgresError(
    'wrong_version',
    `The data folder ${layout.dataDir} holds data of Postgres ${found}, and this is Postgres ${majorVersion}: ` +
      'use the Stepwell that made it, choose another folder with --data-dir, or delete the data with --fresh.',
  )
}

/** Postgres insists that its folder belongs to the user that it runs as; said here in words that help. */
export async function checkOwner(layout: Layout, account: Account): Promise<void> {
  const uid = account.kind === 'self' ? process.geteuid?.() : account.uid
  const found = await stat(layout.cluster)
  if (uid !== undefined && found.uid !== uid) throw notPermitted(layout.dataDir)
}

/** Deletes the cluster, which must be ours and have no server running. */
export async function discardCluster(layout: Layout): Promise<void> {
  await rename(layout.cluster, join(layout.dataDir, DISCARDED_PREFIX + randomBytes(4).toString('hex')))
}

/** Deletes what an interrupted start or deletion has left. Only under the folder's lock. */
export async function removeRemains(layout: Layout): Promise<void> {
  const names = await readdir(layout.dataDir)
  const remains = names.filter(name => name.startsWith(UNFINISHED_PREFIX) || name.startsWith(DISCARDED_PREFIX))
  // An initdb that outlived its killed engine may still be writing there, until it misses what we have deleted.
  const options = { recursive: true, force: true, maxRetries: MAX_DELETE_TRIES, retryDelay: DELETE_RETRY_MS }
  for (const name of remains) await rm(join(layout.dataDir, name), options)
}

/** Gives a file or folder to the account that Postgres runs as. */
export async function giveTo(account: Account, path: string): Promise<void> {
  if (account.kind === 'self') return
  try {
    await chown(path, account.uid, account.gid)
  } catch (cause) {
    if (errorCode(cause) !== 'EPERM') throw cause
    throw cannotRunAsRoot(`the system does not let it give ${path} to the account ${account.name}`, cause)
  }
}

export function notPermitted(dataDir: string, cause?: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'no_permission',
    `The data folder ${dataDir} belongs to another user or cannot be written. ` +
      'Run Stepwell as the user who made it, or choose another folder with --data-dir.',
    { cause },
  )
}

function notOurs(layout: Layout, why: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'not_a_data_folder',
    `The folder ${layout.dataDir} is not a data folder of Stepwell's (${why}): ` +
      'choose an empty or a new folder with --data-dir.',
  )
}

function initdbFailed(layout: Layout, outcome: { output: string; code: string | undefined }): EmbeddedPostgresError {
  const { output, code } = outcome
  if (code === 'ENOENT' || code === 'EACCES' || /cannot open shared object|not found \(required by/.test(output)) {
    return new EmbeddedPostgresError(
      'no_binary',
      `The Postgres that came with Stepwell does not run on this system: ${output}. ` +
        'Give Stepwell the address of a Postgres of your own.',
    )
  }
  // It tells each step first; what went wrong is at the end.
  const end = output.split('\n').slice(-OUTPUT_LINES).join('\n')
  return new EmbeddedPostgresError('start_failed', `Postgres could not make ${layout.cluster}: ${end}`)
}

function parseIdentity(text: string): Identity | undefined {
  try {
    const value: Partial<Identity> = JSON.parse(text)
    const { user, password, database, id } = value
    const all = [user, password, database, id]
    if (!all.every(part => typeof part === 'string' && part !== '')) return undefined
    return value as Identity // every field has just been checked
  } catch {
    return undefined
  }
}

async function writePrivate(path: string, text: string, account: Account): Promise<void> {
  await writeFile(path, text, { flag: 'wx', mode: PRIVATE_FILE, flush: true })
  await giveTo(account, path)
}

async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return
  const folder = await open(path)
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

function fail(error: Error): never {
  throw error
}
