/*
 * What processes have cost, from /proc. A process group here is the trees under some roots without the trees under
 * others: an engine without the Postgres that it started. Where there is no /proc (not Linux) figures are NaN, which
 * prints as "-" and becomes null in JSON: unknown, and not zero.
 */
import { readdirSync, readFileSync } from 'node:fs'

export interface ProcessGroup {
  roots: readonly number[]
  /** Roots of trees inside that are counted elsewhere. */
  without?: readonly number[]
}

/** USER_HZ, which has been 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100
const BYTES_PER_KIB = 1_024

/** User and system time, in seconds, of the processes that live and of those of their children that have ended. */
export function cpuSecondsOf(group: ProcessGroup): number {
  const processes = processesOf(group)
  if (processes === null) return Number.NaN
  return processes.reduce((sum, { cpuTicks }) => sum + cpuTicks, 0) / TICKS_PER_SECOND
}

/** Memory in bytes: each process's share of what it shares, so that Postgres's buffers count once. */
export function memoryBytesOf(group: ProcessGroup): number {
  const processes = processesOf(group)
  if (processes === null) return Number.NaN
  return processes.reduce((sum, { pid }) => sum + memoryOf(pid), 0)
}

/** The pids of a group as it is now, parents before children. */
export function pidsOf(group: ProcessGroup): number[] {
  return processesOf(group)?.map(({ pid }) => pid) ?? [...group.roots]
}

interface ProcessStat {
  pid: number
  parent: number
  cpuTicks: number
}

function processesOf({ roots, without = [] }: ProcessGroup): ProcessStat[] | null {
  const all = readStats()
  if (all === null) return null
  const found: ProcessStat[] = all.filter(({ pid }) => roots.includes(pid) && !without.includes(pid))
  for (let at = 0; at < found.length; at += 1)
    for (const child of all)
      if (child.parent === found[at]?.pid && !without.includes(child.pid) && !found.includes(child)) found.push(child)
  return found
}

function readStats(): ProcessStat[] | null {
  try {
    const pids = readdirSync('/proc').filter(name => /^\d+$/.test(name))
    return pids.map(statOf).filter(stat => stat !== null)
  } catch {
    return null
  }
}

function statOf(pid: string): ProcessStat | null {
  const text = read(`/proc/${pid}/stat`)
  // The name in brackets may hold spaces and brackets; what follows the last one does not.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  if (fields.length < 15) return null
  const cpuTicks = fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0)
  return { pid: Number(pid), parent: Number(fields[1]), cpuTicks }
}

function memoryOf(pid: number): number {
  const proportional = /^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`))
  const resident = /^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))
  return Number((proportional ?? resident)?.[1] ?? 0) * BYTES_PER_KIB
}

/** A process that ends while we look is no error. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
