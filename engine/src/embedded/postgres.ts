/**
 * A real Postgres out of an npm package, in a folder of the user's, with nothing to install.
 *
 *     lock the folder   one Stepwell process owns it
 *     look at it        ours, empty, or not to be touched
 *     what runs there   a server that outlived a killed engine is adopted when it is what we would start
 *     initdb            when there is no cluster
 *     start             in a session of its own; see postmaster.ts
 *
 * Killing the engine or the server at any moment is fine: the next start finds out what was left and goes on.
 */
import { mkdir, rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type Account, chooseAccount, chooseLauncher, type Launcher } from './account.ts'
import { adoptRunning, connectionTo, stopRunning } from './adopt.ts'
import { type Binaries, findBinaries, prepareBinaries } from './binaries.ts'
import {
  checkOwner,
  checkVersion,
  createCluster,
  discardCluster,
  giveTo,
  type Identity,
  notPermitted,
  readIdentity,
  removeRemains,
} from './cluster.ts'
import { askServer, type Connection, chooseEndpoint, connectionUrl, type Endpoint } from './connection.ts'
import { EmbeddedPostgresError, errorCode } from './error.ts'
import { fingerprintOf, IDENTITY_FILE, type Layout, layoutOf } from './layout.ts'
import { type FolderLock, lockFolder } from './lock.ts'
import { makeFolder } from './make-folder.ts'
import { launchPostmaster, type Postmaster, readLogTail, readPostmasterFile, stopPostmaster } from './postmaster.ts'
import { isRunning } from './processes.ts'
import { resolveSettings } from './settings.ts'

export interface EmbeddedPostgres {
  /** For postgres.js: `postgres({ ...connection })`. A unix socket, or 127.0.0.1 where a socket cannot be. */
  connection: Connection
  /** The same for psql and other programs on libpq. postgres.js needs `connectionFromUrl` for it: see there. */
  url: string
  /** The folder that was asked for, as an absolute path. */
  dataDir: string
  postmasterPid: number
  /** `started`: with data kept from before. `adopted`: the server of a killed engine was still running. */
  how: 'created' | 'started' | 'adopted'
  /** Tells the next process that asks for this folder where its owner is, `http://localhost:3030`. */
  setNote(note: string): Promise<void>
  /** Fast shutdown; resolves when the server is gone, also with clients connected. Idempotent. */
  stop(): Promise<void>
  /** Resolves when the server ends without having been asked: it crashed or was killed. Never rejects. */
  died: Promise<{ message: string }>
}

interface Place {
  layout: Layout
  account: Account
  launcher: Launcher
  binaries: Binaries
}

const MAX_STARTS = 3
const WATCH_MS = 200

/**
 * Starts Postgres on a folder, which is made when it does not exist. Throws `EmbeddedPostgresError`.
 *
 * @param options.fresh deletes the data that is there, when it is Stepwell's, and begins anew
 * @param options.settings Postgres settings on top of ours; what would weaken durability is refused
 */
export async function startEmbeddedPostgres(options: {
  dataDir: string
  fresh?: boolean
  settings?: Record<string, string>
}): Promise<EmbeddedPostgres> {
  const settings = resolveSettings(options.settings ?? {})
  const found = await findBinaries()
  const layout = await prepareFolder(options.dataDir)
  let lock: FolderLock | undefined
  try {
    // Before the lock: nothing is written into a folder that is not ours.
    await readIdentity(layout)
    const account = await chooseAccount([layout.cluster, layout.dataDir])
    lock = await lockFolder({ path: layout.lock, dataDir: layout.dataDir })
    await giveTo(account, layout.dataDir)
    const binaries = await prepareBinaries({ ...found, linksFolder: layout.libraryLinks })
    const launcher = await chooseLauncher(account, binaries, layout.dataDir)
    return await startIn({ layout, account, launcher, binaries }, lock, { fresh: options.fresh ?? false, settings })
  } catch (error) {
    await lock?.release()
    throw translate(error, layout.dataDir)
  }
}

interface Running {
  identity: Identity
  endpoint: Endpoint
  postmaster: Postmaster
  how: EmbeddedPostgres['how']
}

async function startIn(
  place: Place,
  lock: FolderLock,
  wanted: { fresh: boolean; settings: Record<string, string> },
): Promise<EmbeddedPostgres> {
  const { layout, account, binaries } = place
  const fingerprint = fingerprintOf([binaries.postgres, binaries.version, ...Object.entries(wanted.settings).flat()])
  const settings = { ...wanted.settings, 'stepwell.fingerprint': fingerprint }
  let identity = await readIdentity(layout)
  if (identity && wanted.fresh) {
    await stopRunning(layout, identity)
    await discardCluster(layout)
    identity = undefined
  } else if (identity) {
    await checkVersion(layout, binaries.version)
    await checkOwner(layout, account)
  }
  await removeRemains(layout)
  const how = identity === undefined ? 'created' : 'started'
  identity ??= await createCluster(place)
  for (let attempt = 1; ; attempt++) {
    const adopted = await adoptRunning({ layout, identity, fingerprint })
    if (adopted) return own({ layout, lock, running: { identity, ...adopted, how: 'adopted' } })
    const left = await readPostmasterFile(layout, identity)
    await stopRunning(layout, identity)
    // Taken again once: it may be somebody else's by now.
    const formerPort = left?.endpoint?.kind === 'tcp' && attempt === 1 ? left.endpoint.port : undefined
    try {
      const started = await start({ place, identity, settings, formerPort })
      return own({ layout, lock, running: { identity, ...started, how } })
    } catch (error) {
      const mayRetry = attempt < MAX_STARTS && (await isWorthAnotherTry(error, layout, identity))
      if (!mayRetry) throw error
    }
  }
}

async function start(options: {
  place: Place
  identity: Identity
  settings: Record<string, string>
  formerPort: number | undefined
}) {
  const { place, identity, settings, formerPort } = options
  const { layout, account } = place
  // A socket and its lock file stay when a server is killed. Nobody listens on them now.
  await rm(layout.socketDir, { recursive: true, force: true })
  await mkdir(layout.socketDir, { mode: 0o700 })
  await giveTo(account, layout.socketDir)
  const endpoint = await chooseEndpoint(layout.socketDir, formerPort)
  const postmaster = await launchPostmaster({ ...place, endpoint, identity, settings })
  try {
    await askServer(connectionTo(endpoint, identity))
    return { endpoint, postmaster }
  } catch (error) {
    await stopPostmaster(postmaster.process, layout)
    throw notLetIn(layout, error)
  }
}

function notLetIn(layout: Layout, cause: unknown): EmbeddedPostgresError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new EmbeddedPostgresError(
    'start_failed',
    `Postgres runs on ${layout.dataDir} but does not let Stepwell in: ${why}. ` +
      `The user and password that Stepwell uses are in ${layout.cluster}/${IDENTITY_FILE}.`,
    { cause },
  )
}

/** A port can be taken between looking and listening; a killed engine may have started a server just before us. */
async function isWorthAnotherTry(error: unknown, layout: Layout, identity: Identity): Promise<boolean> {
  if (!(error instanceof EmbeddedPostgresError)) return false
  if (error.code === 'port_in_use') return true
  return error.code === 'start_failed' && (await readPostmasterFile(layout, identity))?.process !== undefined
}

function own(options: { layout: Layout; lock: FolderLock; running: Running }): EmbeddedPostgres {
  const { layout, lock, running } = options
  const { identity, endpoint, postmaster, how } = running
  const connection = connectionTo(endpoint, identity)
  let stopping: Promise<void> | undefined
  const died = watch(postmaster, () => stopping !== undefined).then(async end => ({
    message: `Postgres of ${layout.dataDir} ended by itself (${end}). The end of ${layout.log}:\n${await readLogTail(layout)}`,
  }))
  return {
    connection,
    url: connectionUrl(connection),
    dataDir: layout.dataDir,
    postmasterPid: postmaster.process.pid,
    how,
    setNote: note => lock.setNote(note),
    stop() {
      stopping ??= stopPostmaster(postmaster.process, layout).then(() => lock.release())
      return stopping
    },
    died,
  }
}

/** Resolves with how the postmaster ended, unless it was asked to. Keeps no process alive that has nothing else to do. */
function watch(postmaster: Postmaster, isStopping: () => boolean): Promise<string> {
  const { child, process: target } = postmaster
  return new Promise(resolve => {
    if (child) {
      const report = (code: number | null, signal: NodeJS.Signals | null) => {
        if (!isStopping()) resolve(signal ?? `exit code ${code}`)
      }
      if (child.exitCode !== null || child.signalCode !== null) report(child.exitCode, child.signalCode)
      else child.once('exit', report)
      return
    }
    // Not our child, so nobody tells us.
    const timer = setInterval(async () => {
      if (isStopping()) return clearInterval(timer)
      if (await isRunning(target)) return
      clearInterval(timer)
      if (!isStopping()) resolve('it had been adopted, so how it ended is not known')
    }, WATCH_MS).unref()
  })
}

async function prepareFolder(path: string): Promise<Layout> {
  try {
    return layoutOf(await makeFolder(path))
  } catch (error) {
    throw translate(error, resolve(path))
  }
}

/** What the file system refuses us is a matter of permissions; the rest stays what it is. */
function translate(error: unknown, dataDir: string): unknown {
  const code = errorCode(error)
  return code === 'EACCES' || code === 'EPERM' || code === 'EROFS' ? notPermitted(dataDir, error) : error
}
