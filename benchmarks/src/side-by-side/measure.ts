/*
 * One system, one workload, one turn: what it took and what it cost. Interleaved by rounds: within a round every
 * workload is run by each system in turn, who is first changes, and whoever is not measured stands still (SIGSTOP), its
 * database with it.
 */
import { cpuSecondsOf, memoryBytesOf, type ProcessGroup } from '../processes/usage.ts'
import { percentile } from '../report/statistics.ts'
import type { Times, Workload } from '../workloads/workloads.ts'
import { type Plan, stepsOf, WORKLOAD_IDS, type WorkloadId } from './plan.ts'
import type { System } from './system.ts'

/** NaN where a system has no such part, or where it is not known. */
export interface Parts {
  server: number
  database: number
  app: number
}

export interface Measurement {
  system: string
  workload: WorkloadId
  round: number
  p50Ms: number
  p95Ms: number
  p99Ms: number
  /** Until the handler has ended, seen by its client or not; NaN where it is not taken. */
  handlerEndedP50Ms: number
  /** Of sleeps: after what was recorded, not after asking; NaN elsewhere. */
  lateAfterRecordedP50Ms: number
  lateAfterRecordedP99Ms: number
  stepsPerSecond: number
  /** Per 1,000 steps. */
  cpuSeconds: Parts
  /** NaN where there is no Postgres. */
  walBytesPerStep: number
  transactionsPerStep: number
}

export interface Idle {
  system: string
  /** Of one core. */
  cpuPercent: Parts
  memoryBytes: Parts
}

export type Progress = (text: string) => void

/** After a system goes on, before it is asked for anything. */
const RESUMED_MS = 100

export async function warmUp(systems: readonly System[], plan: Plan, progress: Progress): Promise<void> {
  for (const system of systems) system.pause()
  for (const system of systems) {
    progress(`warm-up: ${system.name}`)
    await inTurn(system, () => system.measure(plan.warmUp))
  }
}

/** @param given.missing gets what a peer could not do; it takes no part from then on. Our own failures are thrown. */
export async function measureRounds(
  systems: readonly System[],
  plan: Plan,
  given: { progress: Progress; missing: string[] },
): Promise<Measurement[]> {
  const measurements: Measurement[] = []
  const failed = new Set<System>()
  for (let round = 0; round < plan.rounds; round += 1)
    for (const [at, id] of WORKLOAD_IDS.entries())
      for (const system of rotated(systems, round + at)) {
        if (failed.has(system)) continue
        given.progress(`round ${round + 1} of ${plan.rounds}, ${id}: ${system.name}`)
        try {
          measurements.push(await inTurn(system, () => measure(system, { plan, id, round })))
        } catch (error) {
          if (system === systems[0]) throw error
          failed.add(system)
          given.missing.push(`${system.name} from ${id} of round ${round + 1} on: ${String(error).slice(0, 300)}`)
        }
      }
  return measurements
}

/** Milliseconds of one run of so many steps; NaN where the system has a limit below it. */
export async function measureLongRun(system: System, plan: Plan, steps: number): Promise<number> {
  if (steps > (system.facts.stepsMax ?? Number.POSITIVE_INFINITY)) return Number.NaN
  return inTurn(system, async () => {
    await prepare(system, plan)
    const { timesMs } = await system.measure({ kind: 'one_by_one', runs: 1, steps, limitMs: 0 })
    return timesMs[0] ?? Number.NaN
  })
}

/** All at the same time: whoever has nothing to do disturbs nobody. */
export async function measureIdle(systems: readonly System[], { settleMs, idleMs }: Plan): Promise<Idle[]> {
  for (const system of systems) system.resume()
  await pause(settleMs)
  const before = systems.map(cpuOf)
  const startedAt = performance.now()
  await pause(idleMs)
  const after = systems.map(cpuOf)
  const seconds = (performance.now() - startedAt) / 1_000
  for (const system of systems) system.pause()
  return systems.map((system, at) => ({
    system: system.name,
    cpuPercent: mapParts(part => (((after[at]?.[part] ?? Number.NaN) - (before[at]?.[part] ?? 0)) / seconds) * 100),
    memoryBytes: partsOf(system, memoryBytesOf),
  }))
}

export async function inTurn<Result>(system: System, work: () => Promise<Result>): Promise<Result> {
  system.resume()
  await pause(RESUMED_MS)
  try {
    return await work()
  } finally {
    system.pause()
  }
}

async function measure(system: System, given: { plan: Plan; id: WorkloadId; round: number }): Promise<Measurement> {
  const { plan, id, round } = given
  const workload = plan.workloads[id]
  await prepare(system, plan)
  const writtenBefore = await system.probe?.written()
  const cpuBefore = cpuOf(system)
  const times = await system.measure(workload)
  const cpuAfter = cpuOf(system)
  const written = await system.probe?.written()
  const steps = stepsOf(workload, times.timesMs.length)
  const per1000 = (part: keyof Parts) => ((cpuAfter[part] - cpuBefore[part]) / steps) * 1_000
  const perStep = (part: 'walBytes' | 'transactions') =>
    written && writtenBefore ? (written[part] - writtenBefore[part]) / steps : Number.NaN
  return {
    system: system.name,
    workload: id,
    round,
    ...summaryOf(workload, times),
    cpuSeconds: mapParts(per1000),
    walBytesPerStep: perStep('walBytes'),
    transactionsPerStep: perStep('transactions'),
  }
}

async function prepare(system: System, plan: Plan): Promise<void> {
  await system.measure(plan.wakeUp)
  await system.probe?.analyze()
}

function summaryOf(workload: Workload, { timesMs, handlerEndedMs, lateAfterRecordedMs }: Times) {
  const totalMs = timesMs.reduce((sum, ms) => sum + ms, 0)
  return {
    p50Ms: percentile(timesMs, 0.5),
    p95Ms: percentile(timesMs, 0.95),
    p99Ms: percentile(timesMs, 0.99),
    handlerEndedP50Ms: percentile(handlerEndedMs, 0.5),
    lateAfterRecordedP50Ms: percentile(lateAfterRecordedMs, 0.5),
    lateAfterRecordedP99Ms: percentile(lateAfterRecordedMs, 0.99),
    // The times of sleeps are how late they were, which says nothing about a rate.
    stepsPerSecond: workload.kind === 'timers' ? Number.NaN : (stepsOf(workload, timesMs.length) / totalMs) * 1_000,
  }
}

function cpuOf(system: System): Parts {
  return partsOf(system, cpuSecondsOf)
}

function partsOf({ groups }: System, measureGroup: (group: ProcessGroup) => number): Parts {
  return mapParts(part => (groups[part] === null ? Number.NaN : measureGroup(groups[part])))
}

function mapParts(toValue: (part: keyof Parts) => number): Parts {
  return { server: toValue('server'), database: toValue('database'), app: toValue('app') }
}

function rotated<Item>(items: readonly Item[], by: number): Item[] {
  return items.map((_, at) => items[(at + by) % items.length] as Item)
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
