import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, realpathSync } from 'node:fs'
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import postgres from 'postgres'
import { onTestFinished } from 'vitest'
import type { Connection } from '../../src/embedded/connection.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/postgres.ts'
import { findProcess, findServerProcesses } from '../../src/embedded/processes.ts'

export const isRoot = process.geteuid?.() === 0
/** An ordinary account that every Linux has. */
export const NOBODY = 65_534

const OWNER = fileURLToPath(new URL('owner.ts', import.meta.url))
const TSX = import.meta.resolve('tsx')
const POLL_MS = 5
const MAX_WAIT_MS = 30_000

/** An empty folder that everybody can reach; afterwards it is gone, with every server that still runs in it. */
export function scratchFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'sw-embedded-')))
  chmodSync(folder, 0o755)
  onTestFinished(async () => {
    for (const { pid } of await findServerProcesses(folder)) process.kill(pid, 'SIGQUIT')
    await until(async () => (await findServerProcesses(folder)).length === 0)
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  })
  return folder
}

/** Starts a server in this process, and stops it when the test is over. */
export async function start(
  dataDir: string,
  options: { fresh?: boolean; settings?: Record<string, string> } = {},
): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ dataDir, ...options })
  onTestFinished(() => server.stop())
  return server
}

export interface Owner {
  /** What it printed first. */
  said: Partial<Omit<EmbeddedPostgres, 'stop' | 'died' | 'setNote'>> & { pid?: number; code?: string; message?: string }
  child: ChildProcess
  nextLine(): Promise<Record<string, unknown>>
  ended: Promise<unknown>
}

/** Starts a server in another process; `run` is the command that puts that process under another account. */
export async function startOwner(
  options: { dataDir: string; note?: string; settings?: Record<string, string> },
  { run = [], script = OWNER, env = {} }: { run?: string[]; script?: string; env?: Record<string, string> } = {},
): Promise<Owner> {
  const owner = spawnOwner(options, { run, script, env })
  return { ...owner, said: await owner.nextLine() }
}

/** The same without waiting for it. */
export function spawnOwner(
  options: { dataDir: string; note?: string; settings?: Record<string, string> },
  { run = [], script = OWNER, env = {} }: { run?: string[]; script?: string; env?: Record<string, string> } = {},
): Omit<Owner, 'said'> {
  const [file = process.execPath, ...args] = [
    ...run,
    process.execPath,
    '--import',
    TSX,
    script,
    JSON.stringify(options),
  ]
  const child = spawn(file, args, {
    // A process group of its own, as a terminal gives to what it runs.
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
  const ended = new Promise(resolve => child.once('exit', resolve))
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return { child, ended, nextLine: () => nextLine(lines) }
}

/** Command words that run something as an ordinary user. */
export function asUser(uid: number): string[] {
  return ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--']
}

export async function query(connection: Connection, text: string): Promise<postgres.Row[]> {
  const sql = postgres({ ...connection, max: 1, onnotice: () => undefined })
  try {
    return [...(await sql.unsafe(text))]
  } finally {
    await sql.end({ timeout: 1 })
  }
}

/** Kills a process as the kernel does when memory is short, and waits until it is gone. */
export async function killHard(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL')
  await until(async () => (await findProcess(pid)) === undefined)
}

/** Waits for something that has no event to wait for. */
export async function until(isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + MAX_WAIT_MS
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error(`still not so after ${MAX_WAIT_MS} ms: ${isTrue}`)
    await sleep(POLL_MS)
  }
}

/** The account that the data belongs to. */
export async function ownerOf(path: string): Promise<{ uid: number; gid: number }> {
  const { uid, gid } = await stat(path)
  return { uid, gid }
}

export async function entriesOf(folder: string): Promise<string[]> {
  return (await readdir(folder)).sort()
}

/** The folder and everything in it. */
export async function entriesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true })
  return [folder, ...entries.map(entry => join(folder, entry))]
}

export async function readText(path: string): Promise<string> {
  return readFile(path, 'utf8')
}

async function nextLine(lines: ReturnType<Interface[typeof Symbol.asyncIterator]>): Promise<Record<string, unknown>> {
  const { value, done } = await lines.next()
  if (done) throw new Error('the process ended without a word')
  return JSON.parse(value)
}
