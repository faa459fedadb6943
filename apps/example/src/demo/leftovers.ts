/**
 * Nothing keeps running that the demo has started, whatever became of it: an engine that was killed leaves its Postgres
 * behind on purpose (the next engine takes it over), and a demo that was killed leaves everything behind.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** A process that was started, and a text of its command line that tells it from one that got its pid later. */
export interface Started {
  pid: number
  command: string
}

const FAST_SHUTDOWN_MS = 10_000
const POLL_MS = 20
const NOTES = 'processes.json'

/** Whether a folder may be removed as a whole: a demo has made it, or it is empty or not there. */
export function isOurs(folder: string): boolean {
  return !existsSync(folder) || readdirSync(folder).length === 0 || existsSync(join(folder, NOTES))
}

/** Where a demo notes what it has started. */
export function noteStarted(folder: string, processes: readonly Started[]): void {
  writeFileSync(join(folder, NOTES), JSON.stringify(processes))
}

/** What the last demo in this folder has noted and is still running. */
export function findStarted(folder: string): Started[] {
  try {
    // The file is ours: `noteStarted` wrote it.
    const processes = JSON.parse(readFileSync(join(folder, NOTES), 'utf8')) as Started[]
    return processes.filter(({ pid, command }) => commandLineOf(pid).includes(command))
  } catch {
    return []
  }
}

/** Ends the processes that were noted, at once. */
export async function killStarted(processes: readonly Started[]): Promise<void> {
  for (const { pid } of processes) signal(pid, 'SIGKILL')
  await untilGone(processes.map(({ pid }) => pid))
}

/** Stops the Postgres of a data folder, when one runs there. */
export async function stopPostgres(dataDir: string): Promise<void> {
  const pid = readPostmasterPid(dataDir)
  if (pid === null || !commandLineOf(pid).includes('postgres')) return
  // The fast shutdown: connections are closed, everything is written.
  signal(pid, 'SIGINT')
  if (await untilGone([pid])) return
  signal(pid, 'SIGQUIT')
  await untilGone([pid])
}

/** Removes the folder. */
export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
}

/** The first line of Postgres's own pid file. */
function readPostmasterPid(dataDir: string): number | null {
  try {
    const pid = Number(readFileSync(join(dataDir, 'cluster/postmaster.pid'), 'utf8').split('\n')[0])
    return Number.isInteger(pid) && pid > 1 ? pid : null
  } catch {
    return null
  }
}

/** Empty when there is no such process (one that has ended and was not waited for is none), or the system does not tell. */
export function commandLineOf(pid: number): string {
  try {
    if (process.platform === 'linux') return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
    return execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' })
  } catch {
    return ''
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // It is gone already.
  }
}

async function untilGone(pids: readonly number[]): Promise<boolean> {
  const untilMs = performance.now() + FAST_SHUTDOWN_MS
  while (pids.some(pid => commandLineOf(pid) !== '')) {
    if (performance.now() > untilMs) return false
    await sleep(POLL_MS)
  }
  return true
}
