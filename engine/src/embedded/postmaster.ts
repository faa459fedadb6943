/**
 * The server process. It runs in a session of its own and writes its log to a file, so neither Ctrl-C in our terminal
 * (which goes to the whole process group) nor our end touches it: an engine that drains still has its database, and
 * the server of an engine that was killed is found again. `postmaster.pid`, which Postgres keeps in its data folder,
 * says where; all of it is checked before it is believed.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { constants, type FileHandle, open, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Account, asAccount, type Launcher } from './account.ts'
import type { Binaries } from './binaries.ts'
import { type Identity, serverName } from './cluster.ts'
import type { Endpoint } from './connection.ts'
import { EmbeddedPostgresError, errorCode } from './error.ts'
import type { Layout } from './layout.ts'
import {
  findProcess,
  findServerProcesses,
  isRunning,
  type ProcessId,
  signalProcess,
  waitUntilGone,
} from './processes.ts'
import { environmentOf } from './run-program.ts'
import { settingArguments } from './settings.ts'

/** What `postmaster.pid` says; `process` is set when that process runs and is this cluster's server. */
export interface PostmasterFile {
  process: ProcessId | undefined
  endpoint: Endpoint | undefined
  status: string
}

export interface Postmaster {
  process: ProcessId
  /** Undefined when it was started by somebody else and adopted. */
  child: ChildProcess | undefined
}

// Recovery after a crash is part of it, and reads up to max_wal_size.
export const READY_TIMEOUT_MS = 600_000
const POLL_MS = 5
const FAST_TIMEOUT_MS = 30_000
const IMMEDIATE_TIMEOUT_MS = 5_000
const KILL_TIMEOUT_MS = 5_000
const ORPHAN_TIMEOUT_MS = 3_000
const MAX_LOG_BYTES = 1024 * 1024
const LOG_TAIL_BYTES = 4096
const LOG_TAIL_LINES = 6

/** Reads `postmaster.pid`; undefined when there is none, which is how a clean stop leaves the folder. */
export async function readPostmasterFile(layout: Layout, identity: Identity): Promise<PostmasterFile | undefined> {
  let text: string
  try {
    text = await readFile(join(layout.cluster, 'postmaster.pid'), 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw error
  }
  const [pid = '', , , port = '', folder = '', address = '', , status = ''] = text.split('\n').map(line => line.trim())
  return { process: await findOwnProcess(Number(pid), serverName(layout, identity)), endpoint: endpointOf(), status }

  function endpointOf(): Endpoint | undefined {
    if (folder !== '') return { kind: 'socket', folder, port: Number(port) }
    return address === '' ? undefined : { kind: 'tcp', host: address, port: Number(port) }
  }
}

/** Starts the server and waits until it takes connections. Throws `start_failed` or `port_in_use`. */
export async function launchPostmaster(options: {
  layout: Layout
  account: Account
  launcher: Launcher
  binaries: Binaries
  endpoint: Endpoint
  identity: Identity
  settings: Readonly<Record<string, string>>
}): Promise<Postmaster> {
  const { layout, account, launcher, binaries, endpoint, identity, settings } = options
  const command = asAccount({
    account,
    launcher,
    file: binaries.postgres,
    args: [
      '-D',
      layout.cluster,
      ...settingArguments({ ...settings, ...placeOf(endpoint), cluster_name: serverName(layout, identity) }),
    ],
  })
  const log = await openLog(layout, account)
  const logStart = (await log.stat()).size
  try {
    const child = spawn(command.file, command.args, {
      ...command.identity,
      cwd: process.platform === 'win32' ? layout.dataDir : '/',
      env: environmentOf(binaries.libraryEnv),
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      windowsHide: true,
    })
    child.unref()
    const started = await waitUntilReady(child, layout)
    return { process: started, child }
  } catch (cause) {
    throw await startFailed({ layout, endpoint, logStart, cause })
  } finally {
    await log.close()
  }
}

/**
 * Fast shutdown: transactions are rolled back, connections closed, everything written. What does not end in time is
 * told to stop where it is (Postgres recovers at the next start), then killed.
 */
export async function stopPostmaster(target: ProcessId, layout: Layout): Promise<void> {
  const steps: [NodeJS.Signals, number][] = [
    ['SIGINT', FAST_TIMEOUT_MS],
    ['SIGQUIT', IMMEDIATE_TIMEOUT_MS],
    ['SIGKILL', KILL_TIMEOUT_MS],
  ]
  for (const [signal, timeoutMs] of steps) {
    await signalProcess(target, signal)
    if (await waitUntilGone(target, timeoutMs)) return
  }
  throw new EmbeddedPostgresError(
    'stop_failed',
    `Postgres (process ${target.pid}) of ${layout.dataDir} does not end. End it by hand before the next start.`,
  )
}

/**
 * Clears the way after an unclean stop: ends backends that outlived their postmaster (Postgres does not start while
 * one still holds the shared memory), and sees to it that a pid in a left-over lock file that now belongs to another
 * program does not stop the start.
 */
export async function clearRemains(layout: Layout, identity: Identity): Promise<void> {
  const orphans = await findServerProcesses(serverName(layout, identity))
  for (const orphan of orphans) await signalProcess(orphan, 'SIGTERM')
  for (const orphan of orphans) {
    if (await waitUntilGone(orphan, ORPHAN_TIMEOUT_MS)) continue
    await signalProcess(orphan, 'SIGKILL')
    await waitUntilGone(orphan, KILL_TIMEOUT_MS)
  }
  await disownPidFile(join(layout.cluster, 'postmaster.pid'))
}

/** The last lines of the server's log, from `start` on, without its time stamps' noise. */
export async function readLogTail(layout: Layout, start = 0): Promise<string> {
  const log = await open(layout.log).catch(() => undefined)
  if (log === undefined) return 'there is no log'
  try {
    const { size } = await log.stat()
    const from = Math.max(start, size - LOG_TAIL_BYTES)
    const { buffer, bytesRead } = await log.read({ buffer: Buffer.alloc(LOG_TAIL_BYTES), position: from })
    const lines = buffer.subarray(0, bytesRead).toString('utf8').trim().split('\n')
    return lines.slice(-LOG_TAIL_LINES).join('\n') || 'the log is empty'
  } finally {
    await log.close()
  }
}

/** Only a process that carries our cluster's name is ours: the pid may have been given to any other program since. */
async function findOwnProcess(pid: number, name: string): Promise<ProcessId | undefined> {
  const candidates = await findServerProcesses(name)
  return candidates.find(candidate => candidate.pid === pid)
}

function placeOf(endpoint: Endpoint): Record<string, string> {
  if (endpoint.kind === 'tcp') {
    return { listen_addresses: endpoint.host, port: String(endpoint.port), unix_socket_directories: '' }
  }
  return {
    listen_addresses: '',
    port: String(endpoint.port),
    // A list, hence the quotes: the folder's name may have blanks in it.
    unix_socket_directories: `"${endpoint.folder.replaceAll('"', '""')}"`,
    // Its owner may connect, and root, who starts it under that account.
    unix_socket_permissions: '0700',
  }
}

async function openLog(layout: Layout, account: Account): Promise<FileHandle> {
  const size = await stat(layout.log).then(
    found => found.size,
    () => 0,
  )
  if (size > MAX_LOG_BYTES) await rename(layout.log, layout.previousLog)
  // Not through a link: the folder may belong to a less privileged account than ours.
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0)
  const log = await open(layout.log, flags, 0o600)
  if (account.kind === 'other') await log.chown(account.uid, account.gid)
  return log
}

/** Ready is what `postmaster.pid` calls ready, in its eighth line, as for pg_ctl: no connection is spent on asking. */
async function waitUntilReady(child: ChildProcess, layout: Layout): Promise<ProcessId> {
  const path = join(layout.cluster, 'postmaster.pid')
  let ended: Error | undefined
  child.once('error', error => {
    ended = error
  })
  child.once('exit', (code, signal) => {
    ended = new Error(`postgres ended with ${signal ?? `exit code ${code}`}`)
  })
  const deadline = performance.now() + READY_TIMEOUT_MS
  while (ended === undefined) {
    const lines = await readFile(path, 'utf8').then(
      text => text.split('\n'),
      () => [],
    )
    if (child.pid !== undefined && Number(lines[0]) === child.pid && lines[7]?.trim() === 'ready') {
      const found = await findProcess(child.pid)
      if (found) return found
    }
    if (performance.now() > deadline) {
      child.kill('SIGQUIT')
      throw new Error(`postgres was not ready after ${READY_TIMEOUT_MS / 1000} s`)
    }
    await sleep(POLL_MS)
  }
  throw ended
}

async function startFailed(options: { layout: Layout; endpoint: Endpoint; logStart: number; cause: unknown }) {
  const { layout, endpoint, logStart, cause } = options
  const tail = await readLogTail(layout, logStart)
  if (endpoint.kind === 'tcp' && /Address already in use|could not create any TCP/.test(tail)) {
    return new EmbeddedPostgresError('port_in_use', `Port ${endpoint.port} was taken by another program. Try again.`, {
      cause,
    })
  }
  const what = cause instanceof Error ? cause.message : String(cause)
  return new EmbeddedPostgresError(
    'start_failed',
    `Postgres did not start on ${layout.dataDir}: ${what}. The end of ${layout.log}:\n${tail}`,
    { cause },
  )
}

/**
 * Postgres refuses to start while the pid in a left-over `postmaster.pid` runs, whoever that is. Deleting the file
 * would also delete the key of the shared memory, by which it makes sure that no backend is left; so only the pid is
 * replaced, by ours: Postgres takes a file with the pid of its own parent as left over (CreateLockFile in miscinit.c)
 * and goes on to check the shared memory.
 */
async function disownPidFile(path: string): Promise<void> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return
    throw error
  }
  const holder = await findProcess(Number(text.split('\n', 1)[0]))
  if (holder === undefined || !(await isRunning(holder))) return
  await writeFile(path, text.replace(/^\d+/, String(process.pid)))
}
