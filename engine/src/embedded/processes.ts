/**
 * What we need to know about processes that are not our children. A pid alone says little: it is reused, soon after a
 * reboot above all. A pid together with the time at which its process started names one process for good.
 */
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { errorCode } from './error.ts'

export interface ProcessId {
  pid: number
  /** Opaque text, equal for the same process only; empty where the system does not tell. */
  startedAt: string
}

const POLL_MS = 10
// ps prints local time in the user's language; two processes must read the same start time from it.
const PS_OPTIONS = { env: { PATH: '/bin:/usr/bin', LC_ALL: 'C', TZ: 'UTC' }, maxBuffer: 16 * 1024 * 1024 }

/** The process that has this pid now; undefined when there is none. A zombie has ended and counts as none. */
export async function findProcess(pid: number): Promise<ProcessId | undefined> {
  if (!Number.isInteger(pid) || pid <= 0) return undefined
  if (process.platform === 'linux') return findOnLinux(pid)
  if (!exists(pid)) return undefined
  if (process.platform === 'win32') return { pid, startedAt: '' }
  try {
    const { stdout } = await promisify(execFile)('ps', ['-o', 'state=,lstart=', '-p', String(pid)], PS_OPTIONS)
    const [state = '', ...startedAt] = stdout.trim().split(/\s+/)
    return state === '' || state.startsWith('Z') ? undefined : { pid, startedAt: startedAt.join(' ') }
  } catch {
    // ps ends with 1 when there is no such process.
    return undefined
  }
}

export async function isRunning(expected: ProcessId): Promise<boolean> {
  const found = await findProcess(expected.pid)
  return found !== undefined && found.startedAt === expected.startedAt
}

/** Waits until the process is gone; false when it is still there after `timeoutMs`. */
export async function waitUntilGone(target: ProcessId, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (await isRunning(target)) {
    if (performance.now() >= deadline) return false
    await sleep(POLL_MS)
  }
  return true
}

/** Sends a signal; a process that has gone meanwhile is fine. */
export async function signalProcess(target: ProcessId, signal: NodeJS.Signals): Promise<void> {
  // Checked right before: the pid may be somebody else's by now.
  if (!(await isRunning(target))) return
  try {
    process.kill(target.pid, signal)
  } catch (error) {
    if (errorCode(error) !== 'ESRCH') throw error
  }
}

/**
 * Every process of the Postgres server with this `cluster_name`, postmaster or not. The name is in the title of each
 * of them (`postgres: stepwell_1f… walwriter`), which can be read for any user's process without privileges, unlike
 * /proc/pid/cwd.
 */
export async function findServerProcesses(clusterName: string): Promise<ProcessId[]> {
  const found: ProcessId[] = []
  for (const { pid, title } of await listProcesses()) {
    if (!title.includes(clusterName) || !/^postgres: |[/\\]postgres(\.exe)?\s/.test(title)) continue
    const target = await findProcess(pid)
    if (target) found.push(target)
  }
  return found
}

async function listProcesses(): Promise<{ pid: number; title: string }[]> {
  // A Windows server does not outlive its postmaster in a way that we could find; Postgres checks for itself there.
  if (process.platform === 'win32') return []
  if (process.platform === 'linux') {
    // Not `ps`: slim images do not have it.
    const pids = (await readdir('/proc')).filter(name => /^\d+$/.test(name))
    return Promise.all(pids.map(async pid => ({ pid: Number(pid), title: await titleOnLinux(pid) })))
  }
  const { stdout } = await promisify(execFile)('ps', ['-axww', '-o', 'pid=,args='], PS_OPTIONS)
  return stdout.split('\n').map(line => {
    const [, pid = '', title = ''] = /^\s*(\d+)\s+(.*)$/.exec(line) ?? []
    return { pid: Number(pid), title }
  })
}

async function titleOnLinux(pid: string): Promise<string> {
  const raw = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  return raw.replaceAll('\0', ' ')
}

async function findOnLinux(pid: number): Promise<ProcessId | undefined> {
  let stat: string
  try {
    stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // Field 2 is the program's name in brackets and may hold spaces and brackets: count from the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [state = ''] = fields
  if (state === 'Z' || state === 'X') return undefined
  // Field 22 counts ticks since boot, so it needs to be told which boot.
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')
  return { pid, startedAt: `${boot.trim()}:${fields[19]}` }
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return errorCode(error) === 'EPERM'
  }
}
