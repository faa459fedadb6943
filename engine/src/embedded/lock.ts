/**
 * One owner per data folder. The lock is a file that names a process (pid and start time) and where it can be reached.
 * It appears by link(2), so it is never half-written and only one process can make it. A lock whose process has ended
 * is replaced: whoever does that first takes a guard named after that very lock, looks again whether it is still
 * there, and renames its own over it. Without the guard two processes could each replace the other's fresh lock.
 *
 * It says nothing about processes of other containers or machines that share the folder: their pids mean nothing here.
 */
import { randomBytes } from 'node:crypto'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { EmbeddedPostgresError, errorCode } from './error.ts'
import { findProcess, isRunning, type ProcessId } from './processes.ts'

interface LockRecord extends ProcessId {
  /** Names this acquisition, not only this process. */
  nonce: string
  /** Where the owner can be reached, once it knows: the URL of its dashboard. */
  note: string
}

export interface FolderLock {
  /** Puts the owner's address into the lock, for the message that the next process gets. */
  setNote(note: string): Promise<void>
  /** Gives the folder up. Idempotent. */
  release(): Promise<void>
}

const MAX_ATTEMPTS = 100
const RETRY_MS = 20
// Readable by all: when root has run in another user's folder, that user must be able to read what was left.
const LOCK_MODE = 0o644

/** Takes the folder, or throws `folder_in_use` with the owner's pid and address. */
export async function lockFolder(options: { path: string; dataDir: string }): Promise<FolderLock> {
  const { path } = options
  const self = await findProcess(process.pid)
  const record: LockRecord = {
    pid: process.pid,
    startedAt: self?.startedAt ?? '',
    nonce: randomBytes(8).toString('hex'),
    note: '',
  }
  const draft = `${path}.${record.nonce}`
  await writeFile(draft, JSON.stringify(record), { flag: 'wx', mode: LOCK_MODE })
  try {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      if (await tryLink(draft, path)) return heldLock(path, record)
      const holder = await readLock(path)
      if (holder === undefined) continue
      if (await isRunning(holder)) throw inUse(options.dataDir, holder)
      if (await replaceStale({ path, draft, stale: holder })) return heldLock(path, record)
      await sleep(RETRY_MS)
    }
  } finally {
    await rm(draft, { force: true })
  }
  throw new EmbeddedPostgresError(
    'folder_in_use',
    `The lock ${path} keeps changing hands. Try again, or choose another folder with --data-dir.`,
  )
}

async function replaceStale(options: { path: string; draft: string; stale: LockRecord }): Promise<boolean> {
  const { path, draft, stale } = options
  const guard = `${path}.guard-${stale.nonce}`
  if (!(await tryLink(draft, guard))) {
    const rival = await readLock(guard)
    // It was killed in the millisecond between taking the guard and giving it back.
    if (rival && !(await isRunning(rival))) await rm(guard, { force: true })
    return false
  }
  try {
    const present = await readLock(path)
    if (present?.nonce !== stale.nonce) return false
    await rename(draft, path)
    return true
  } finally {
    await rm(guard, { force: true })
  }
}

function heldLock(path: string, record: LockRecord): FolderLock {
  let released = false
  return {
    async setNote(note) {
      if (released) return
      const draft = `${path}.${record.nonce}`
      await writeFile(draft, JSON.stringify({ ...record, note }), { mode: LOCK_MODE })
      await rename(draft, path)
    },
    async release() {
      if (released) return
      released = true
      const present = await readLock(path)
      if (present?.nonce === record.nonce) await rm(path, { force: true })
    },
  }
}

async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false
    throw error
  }
}

async function readLock(path: string): Promise<LockRecord | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw error
  }
  return parseLock(text) ?? { pid: 0, startedAt: '', nonce: 'unreadable', note: '' }
}

/** Undefined for what a power failure can leave: an empty or cut-off file. */
function parseLock(text: string): LockRecord | undefined {
  try {
    const value: Partial<LockRecord> = JSON.parse(text)
    const { pid, startedAt, nonce, note } = value
    if (typeof pid !== 'number' || typeof startedAt !== 'string' || typeof nonce !== 'string') return undefined
    return { pid, startedAt, nonce: nonce.replaceAll(/[^0-9a-f]/g, ''), note: typeof note === 'string' ? note : '' }
  } catch {
    return undefined
  }
}

function inUse(dataDir: string, holder: LockRecord): EmbeddedPostgresError {
  const where = holder.note === '' ? '' : ` at ${holder.note}`
  return new EmbeddedPostgresError(
    'folder_in_use',
    `The data folder ${dataDir} is in use by Stepwell, process ${holder.pid}${where}. ` +
      'Stop it, or choose another folder with --data-dir.',
  )
}
